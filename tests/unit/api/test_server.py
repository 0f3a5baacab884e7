"""The door that clients come through."""
import socket

from feinschliff.api.server import listen


def test_small_answers_do_not_wait_for_acknowledgements():
    with listen("127.0.0.1", 0) as door, socket.create_connection(door.getsockname()):
        connection, _ = door.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

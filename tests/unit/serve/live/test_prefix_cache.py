import torch

from feinschliff.serve.live.prefix_cache import BLOCK, PrefixCache

SIZE = 2 * BLOCK * 4  # bytes of a block of one float32 number a token, as key and as value


def kv(tokens):
    return torch.tensor(tokens, dtype=torch.float32).expand(1, 2, 1, -1)[..., None].clone()


def blocks(*numbers):
    return [n * 1000 + i for n in numbers for i in range(BLOCK)]


def held(cache, tokens, adapter=None):
    return [float(t) for b in cache.find(adapter, tokens, len(tokens)) for t in b.kv[0, 0, 0, :, 0]]


def test_what_was_added_is_found_up_to_where_it_differs():
    cache = PrefixCache(100 * SIZE)
    cache.add(None, blocks(1, 2, 3), [], kv(blocks(1, 2, 3)))
    assert held(cache, blocks(1, 2, 3)) == blocks(1, 2, 3)
    assert held(cache, blocks(1, 2, 9)) == blocks(1, 2)
    assert held(cache, blocks(2, 3)) == []
    assert held(cache, blocks(1), adapter="other") == []
    assert len(cache.find(None, blocks(1, 2, 3), 2 * BLOCK - 1)) == 1
    assert cache.n_bytes == 3 * SIZE


def test_paths_share_what_they_begin_with():
    cache = PrefixCache(100 * SIZE)
    path = cache.add(None, blocks(1, 2), [], kv(blocks(1, 2)))
    cache.add(None, blocks(1, 3), path[:1], kv(blocks(3)))
    cache.add(None, blocks(1, 3), [], kv(blocks(1, 3)))
    assert cache.n_bytes == 3 * SIZE
    assert held(cache, blocks(1, 3)) == blocks(1, 3)


def test_the_least_recently_used_ends_go_first():
    cache = PrefixCache(4 * SIZE)
    cache.add(None, blocks(1, 2), [], kv(blocks(1, 2)))
    cache.add(None, blocks(5, 6), [], kv(blocks(5, 6)))
    held(cache, blocks(1, 2))
    cache.add(None, blocks(7), [], kv(blocks(7)))
    assert held(cache, blocks(1, 2)) == blocks(1, 2)
    assert held(cache, blocks(5, 6)) == blocks(5)
    assert cache.n_bytes == 4 * SIZE


def test_nothing_is_added_after_what_was_thrown_away():
    cache = PrefixCache(2 * SIZE)
    path = cache.add(None, blocks(1), [], kv(blocks(1)))
    cache.add(None, blocks(5, 6), [], kv(blocks(5, 6)))
    assert held(cache, blocks(1)) == []
    assert cache.add(None, blocks(1, 2), path, kv(blocks(2))) == path
    assert cache.n_bytes <= 2 * SIZE
    assert held(cache, blocks(5, 6)) == blocks(5, 6)


def test_an_adapters_blocks_can_be_forgotten():
    cache = PrefixCache(100 * SIZE)
    for adapter in ("a", "b"):
        cache.add(adapter, blocks(1, 2), [], kv(blocks(1, 2)))
    cache.forget("a")
    assert held(cache, blocks(1, 2), "a") == []
    assert held(cache, blocks(1, 2), "b") == blocks(1, 2)
    assert cache.n_bytes == 2 * SIZE

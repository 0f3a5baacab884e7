"""Tests that hold on every device run on the CPU, and on a GPU where there is one."""
import pytest

each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])

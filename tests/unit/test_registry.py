import pytest

from lora_studio.errors import NotFound
from lora_studio.registry import Registry


def test_a_wrong_name_suggests_the_nearest():
    registry: Registry[int] = Registry("method")
    registry.register("linear", 1)
    with pytest.raises(NotFound, match="Did you mean 'linear'"):
        registry.get("liner")


def test_a_name_registers_once_and_order_is_kept():
    registry: Registry[int] = Registry("method")
    registry.register("b", 1)
    registry.register("a", 2)
    assert registry.names() == ["b", "a"]
    with pytest.raises(ValueError, match="twice"):
        registry.register("a", 3)

import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from tests.conftest import build_adapter
from tests.deltas import deltas, distance


def test_folding_moves_the_scale_into_the_factors_and_keeps_the_update():
    adapter = build_adapter(scaling=-2.5)
    folded = adapter.folded()
    assert distance(deltas(folded), deltas(adapter)) < 1e-6
    module = next(iter(folded.factors.values()))
    source = next(iter(adapter.factors.values()))
    assert module.scaling == 1.0
    np.testing.assert_allclose(module.A, source.A * np.sqrt(2.5), rtol=1e-6)


def test_norms_and_inner_products_need_no_dense_update():
    left, right = build_adapter(1, rank=3, scaling=0.5), build_adapter(2, rank=6, scaling=2.0)
    dense = sum((deltas(left)[n] * deltas(right)[n]).sum() for n in deltas(left))
    assert left.inner(right) == pytest.approx(dense, rel=1e-5)
    size = np.sqrt(sum((d**2).sum() for d in deltas(left).values()))
    assert left.norm() == pytest.approx(size, rel=1e-5)
    assert left.cosine(left) == pytest.approx(1.0)


def test_the_id_is_of_weights_and_base_not_of_bookkeeping_or_card():
    plain = build_adapter(3, scaling=4.0)
    assert plain.id == plain.folded().id
    assert plain.id == build_adapter(3, scaling=4.0, title="another card").id
    assert plain.id != build_adapter(3, scaling=4.0, base="other").id
    assert plain.id != plain.scaled(1.01).id


def test_the_order_of_modules_does_not_matter_to_the_id():
    adapter = build_adapter(4)
    turned = Adapter(dict(reversed(adapter.factors.items())), adapter.card)
    assert turned.id == adapter.id


def test_factors_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="not \\(r, d_in\\)"):
        LoraFactors(np.zeros((2, 3), np.float32), np.zeros((4, 3), np.float32))


def test_a_card_survives_its_json_form_and_ignores_unknown_fields():
    card = AdapterCard(title="Past", tags=("a", "b"), samples=("x",), parents=("p",))
    assert AdapterCard.from_dict({**card.to_dict(), "colour": "red"}) == card

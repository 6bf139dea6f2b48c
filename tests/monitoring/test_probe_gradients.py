"""Gradient norms and update ratios: equal to torch's own, by layer, for real models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    MT5Config,
    MT5ForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from dlgsum.monitoring.probes.gradients import GradientProbe
from dlgsum.monitoring.probes.layers import layer_of
from tests.training.test_parallel import run_pair


def bart() -> nn.Module:
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=53, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=32,
            pad_token_id=0, decoder_start_token_id=0,
        )
    )  # fmt: skip


def t5(kind: str = "t5") -> nn.Module:
    config, model = {"t5": (T5Config, T5ForConditionalGeneration), "mt5": (MT5Config, MT5ForConditionalGeneration)}[
        kind
    ]
    return model(
        config(
            vocab_size=53, d_model=16, d_kv=8, num_layers=2, num_decoder_layers=2, num_heads=2, d_ff=32,
            decoder_start_token_id=0,
        )
    )  # fmt: skip


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(vocab_size=53, n_embd=16, n_layer=2, n_head=2, n_positions=32))


def backward(model: nn.Module) -> None:
    rows = torch.arange(14).reshape(2, 7) % 50 + 1
    model(input_ids=rows, labels=rows).loss.backward()


class Mixed(nn.Module):
    """Weights of several types, one without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        types = (torch.float32, torch.bfloat16, torch.float16)
        for index in range(60):  # so many that the order in which they are added up shows
            weight = nn.Parameter(torch.randn(3 + index, 5, dtype=types[index % 7 % 3]))
            weight.grad = None if index == 3 else torch.randn_like(weight) * (1 + index % 10)
            self.register_parameter(f"part{index}", weight)


@pytest.mark.parametrize(
    ("make", "seed"), [(make, seed) for make in (bart, t5, gpt2) for seed in range(3)] + [(Mixed, s) for s in range(20)]
)
def test_the_total_is_that_of_clipping_bit_for_bit(make: type[nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    model = make()
    if make is not Mixed:
        backward(model)
    norms = GradientProbe(model).norms()
    expected = [w.grad.clone().norm() for w in model.parameters() if w.grad is not None]
    assert torch.equal(norms.total, nn.utils.get_total_norm([w.grad for w in model.parameters() if w.grad is not None]))
    assert torch.equal(norms.total, nn.utils.clip_grad_norm_(model.parameters(), 0.1))  # clips, so it comes last
    assert norms.names == tuple(name for name, w in model.named_parameters() if w.grad is not None)
    torch.testing.assert_close([float(n) for n in norms.each], [float(n) for n in expected], rtol=1e-2, atol=0)


def test_layers_add_up_to_the_total_and_hold_what_belongs_to_them() -> None:
    torch.manual_seed(0)
    model = bart()
    backward(model)
    probe = GradientProbe(model)
    norms = probe.norms()
    layers = dict(zip(probe.layers, probe.by_layer(norms).tolist(), strict=True))
    assert math.hypot(*layers.values()) == pytest.approx(float(norms.total), rel=1e-6)
    one = torch.cat([w.grad.reshape(-1) for n, w in model.named_parameters() if ".decoder.layers.1." in n])
    assert layers["dec.L1"] == pytest.approx(float(one.norm()), rel=1e-6)
    assert torch.equal(probe.by_layer(norms), probe.by_layer(probe.norms()))


def test_a_layer_without_gradients_has_none_and_the_others_keep_theirs() -> None:
    model = bart()
    backward(model)
    probe = GradientProbe(model)
    before = dict(zip(probe.layers, probe.by_layer(probe.norms()).tolist(), strict=True))
    for name, weight in model.named_parameters():
        if ".encoder.layers.0." in name:
            weight.grad = None
    after = dict(zip(probe.layers, probe.by_layer(probe.norms()).tolist(), strict=True))
    assert before["enc.L0"] > 0
    assert after == before | {"enc.L0": 0.0}


def test_no_gradient_at_all() -> None:
    probe = GradientProbe(bart())
    norms = probe.norms()
    assert (float(norms.total), norms.total.shape, tuple(norms.each.shape), norms.names) == (0.0, (), (0,), ())
    assert probe.by_layer(norms).tolist() == [0.0] * len(probe.layers)
    empty = GradientProbe(nn.Module())
    assert float(empty.norms().total) == 0 and empty.by_layer(empty.norms()).tolist() == []
    empty.before_update()
    assert empty.after_update() is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_shows_in_its_own_layer_only(bad: float) -> None:
    model = bart()
    backward(model)
    model.get_parameter("model.decoder.layers.0.fc1.weight").grad[0, 0] = bad
    probe = GradientProbe(model)
    norms = probe.norms()
    assert not math.isfinite(norms.total)
    broken = [name for name, norm in zip(norms.names, norms.each.tolist(), strict=True) if not math.isfinite(norm)]
    assert broken == ["model.decoder.layers.0.fc1.weight"]
    layers = zip(probe.layers, probe.by_layer(norms).tolist(), strict=True)
    assert [name for name, norm in layers if not math.isfinite(norm)] == ["dec.L0"]


def change(model: nn.Module) -> Tensor:
    """Take a step of Adam; the ratio of each layer, computed from whole copies, comes back."""
    probe = GradientProbe(model)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    backward(model)
    optimizer.step()
    moved, size = (dict.fromkeys(probe.layers, 0.0) for _ in range(2))
    for name, weight in model.named_parameters():
        moved[layer_of(name)] += float((weight.detach() - before[name]).double().square().sum())
        size[layer_of(name)] += float(before[name].double().square().sum())
    return torch.tensor([math.sqrt(moved[layer] / size[layer]) for layer in probe.layers])


@pytest.mark.parametrize("make", [bart, t5, gpt2])
def test_the_update_ratio_is_exact_where_the_sample_holds_all(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    probe = GradientProbe(model, samples=1024)
    probe.before_update()
    expected = change(model)
    ratios = probe.after_update()
    assert ratios is not None
    torch.testing.assert_close(ratios, expected, rtol=1e-5, atol=0)


def test_a_small_sample_estimates_the_ratio() -> None:
    torch.manual_seed(0)
    wide = BartForConditionalGeneration(
        BartConfig(vocab_size=600, d_model=64, encoder_layers=1, decoder_layers=1, pad_token_id=0,
                   encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=256, decoder_ffn_dim=256,
                   max_position_embeddings=64, decoder_start_token_id=0)
    )  # fmt: skip
    probe = GradientProbe(wide, samples=1000)
    probe.before_update()
    held = probe._before
    assert held is not None and held.numel() < 0.2 * sum(weight.numel() for weight in wide.parameters())
    expected = change(wide)
    ratios = probe.after_update()
    assert ratios is not None
    torch.testing.assert_close(ratios, expected, rtol=0.1, atol=0)


def test_a_sample_meets_every_column() -> None:
    """A stride of 32 in rows of 64 would see two columns; those hold all of the change here, or none."""
    embedding = nn.Embedding(512, 64)
    nn.init.ones_(embedding.weight)
    probe = GradientProbe(embedding, samples=1024)
    probe.before_update()
    with torch.no_grad():
        embedding.weight[:, 0] += 1.0
    ratios = probe.after_update()
    assert ratios is not None
    assert ratios.tolist() == pytest.approx([math.sqrt(1 / 64)], rel=0.15)


def test_weights_of_a_layer_count_by_their_size() -> None:
    """A large weight that rests and a small one that moves: the sample has as many elements of each."""
    layer = nn.Module()
    layer.register_parameter("embed_large", nn.Parameter(torch.ones(100, 100)))
    layer.register_parameter("embed_small", nn.Parameter(torch.ones(10)))
    probe = GradientProbe(layer, samples=10)
    assert probe.layers == ("embed",)
    probe.before_update()
    with torch.no_grad():
        layer.get_parameter("embed_small").add_(1.0)
    ratios = probe.after_update()
    assert ratios is not None and ratios.tolist() == pytest.approx([math.sqrt(10 / 10_010)], rel=1e-5)


def test_a_layer_of_zeros_has_a_ratio() -> None:
    for step, expected in ((0.0, 0.0), (1e-3, 1e-3 * 2 / 1e-8)):
        layer = nn.Linear(4, 1, bias=False)
        nn.init.zeros_(layer.weight)
        probe = GradientProbe(layer)
        probe.before_update()
        with torch.no_grad():
            layer.weight.add_(step)
        ratios = probe.after_update()
        assert ratios is not None and ratios.tolist() == pytest.approx([expected])


def test_a_skipped_step_has_no_ratio_and_leaves_nothing_behind() -> None:
    probe = GradientProbe(nn.Linear(4, 4))
    assert probe.after_update() is None
    probe.before_update()
    assert probe.after_update(skipped=True) is None
    assert probe.after_update() is None


def test_measuring_changes_nothing() -> None:
    torch.manual_seed(0)
    model = bart()
    backward(model)
    before = {name: (w.detach().clone(), w.grad.clone()) for name, w in model.named_parameters()}
    random = torch.get_rng_state()
    probe = GradientProbe(model, samples=10)
    probe.before_update()
    probe.by_layer(probe.norms())
    probe.after_update()
    list(probe.distributions(10))
    assert torch.equal(random, torch.get_rng_state())
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0]) and torch.equal(weight.grad, before[name][1])


def test_material_for_histograms() -> None:
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 2, dtype=torch.bfloat16))
    model[0].weight.grad = torch.randn(20, 30)
    found = dict(GradientProbe(model).distributions(100))
    assert list(found)[:2] == ["gradients/0.weight", "parameters/0.weight"]
    assert set(found) == {"gradients/0.weight", *(f"parameters/{name}" for name, _ in model.named_parameters())}
    assert all(v.ndim == 1 and v.dtype == torch.float32 and 0 < v.numel() <= 100 for v in found.values())
    assert found["parameters/1.weight"].numel() == 40
    assert set(found["gradients/0.weight"].tolist()) <= set(model[0].weight.grad.reshape(-1).tolist())
    assert found["gradients/0.weight"].numel() > 80


SHARED = """
import torch
from transformers import BartConfig, BartForConditionalGeneration
from dlgsum.monitoring.probes.gradients import GradientProbe
from dlgsum.training.fsdp import share_out
start_group(w, "cpu", 60)
def make():
    torch.manual_seed(1)
    # 53 and 17 cannot be divided by two: the parts differ.
    return BartForConditionalGeneration(BartConfig(
        vocab_size=53, d_model=16, pad_token_id=0, decoder_start_token_id=0, encoder_layers=2, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=17, decoder_ffn_dim=32,
        max_position_embeddings=32, dropout=0.0))
rows = torch.arange(4 * 7).reshape(4, 7) % 50 + 1
whole, shared = make(), make()
share_out(shared, torch.device("cpu"), None)
results = []
for model, mine in ((whole, rows), (shared, rows[2 * w.rank : 2 * w.rank + 2])):
    probe = GradientProbe(model)
    assert float(probe.norms().total) == 0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model(input_ids=mine, labels=mine).loss.backward()
    norms = probe.norms()
    probe.before_update()
    optimizer.step()
    results.append((probe.layers, norms.names, norms.total, norms.each, probe.by_layer(norms), probe.after_update()))
    assert all(v.isfinite().all() for _, v in probe.distributions(50))
one, two = results
assert one[:2] == two[:2]
torch.testing.assert_close(one[2:], two[2:], rtol=1e-4, atol=1e-7)
assert float(two[2]) > 0.1 and (two[4] > 0).all() and (two[5] > 0).all()
barrier()
stop_group()
print("as it should be")
"""


@pytest.mark.slow
def test_a_model_in_parts_has_the_norms_of_the_whole() -> None:
    assert run_pair(SHARED) == [(0, "as it should be\n")] * 2


COPIED = """
import torch
from dlgsum.monitoring.probes.gradients import GradientProbe
start_group(w, "cpu", 60)
torch.manual_seed(0)
layer = torch.nn.Linear(3, 3)
layer.weight.grad, layer.bias.grad = torch.ones(3, 3), torch.zeros(3)
probe = GradientProbe(layer)
if w.rank == 0:  # alone: nothing is exchanged, or it would wait forever
    assert float(probe.norms().total) == 3
    before = layer.weight.detach().norm()
    probe.before_update()
    torch.optim.SGD(layer.parameters(), lr=1.0).step()
    assert torch.isclose(probe.after_update()[0], 3 / before), before
barrier()
stop_group()
print("as it should be")
"""


@pytest.mark.slow
def test_copies_of_a_model_in_several_processes_are_measured_without_an_exchange() -> None:
    assert run_pair(COPIED) == [(0, "as it should be\n")] * 2

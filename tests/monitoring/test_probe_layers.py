"""Short names of layers."""

from __future__ import annotations

import pytest

from dlgsum.monitoring.probes.layers import layer_of
from tests.monitoring.test_probe_gradients import bart, gpt2, t5


@pytest.mark.parametrize(
    ("parameter", "layer"),
    [
        ("model.encoder.layers.3.self_attn.q_proj.weight", "enc.L3"),
        ("model.decoder.layers.0.encoder_attn.k_proj.bias", "dec.L0"),
        ("model.decoder.layers.11.encoder_attn_layer_norm.weight", "dec.L11"),
        ("model.shared.weight", "shared"),
        ("shared.weight", "shared"),
        ("model.encoder.embed_positions.weight", "enc.embed"),
        ("model.decoder.layernorm_embedding.weight", "dec.embed"),
        ("encoder.final_layer_norm.weight", "enc.norm"),
        ("model.decoder.layer_norm.bias", "dec.norm"),
        ("lm_head.weight", "head"),
        ("encoder.block.2.layer.1.DenseReluDense.wi.weight", "enc.L2"),
        ("decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "dec.L0"),
        ("transformer.h.4.attn.c_attn.weight", "L4"),
        ("transformer.wte.weight", "embed"),
        ("transformer.wpe.weight", "embed"),
        ("transformer.ln_f.weight", "norm"),
        ("model.layers.7.mlp.up_proj.weight", "L7"),
        ("module.model.encoder.layers.3.fc1.weight", "enc.L3"),
        ("_orig_mod.model.encoder.layers.3.fc1.weight", "enc.L3"),
        ("vision_model.encoder.layers.0.fc1.weight", "vision_model.enc.L0"),
        ("vision_model.lm_head.weight", "vision_model.head"),
        ("pooler.dense.weight", "pooler.dense"),
        ("features.0.weight", "features.0"),
        ("weight", "weight"),
        ("", ""),
    ],
)
def test_layer_of(parameter: str, layer: str) -> None:
    assert layer_of(parameter) == layer


@pytest.mark.parametrize(
    ("model", "layers"),
    [
        (bart(), "shared enc.embed enc.L0 enc.L1 dec.embed dec.L0 dec.L1"),
        (t5(), "shared enc.L0 enc.L1 enc.norm dec.L0 dec.L1 dec.norm"),
        (t5("mt5"), "shared enc.L0 enc.L1 enc.norm dec.L0 dec.L1 dec.norm"),
        (gpt2(), "embed L0 L1 norm"),
    ],
    ids=["BART", "T5", "mT5", "GPT-2"],
)
def test_encoder_and_decoder_of_real_models_never_share_a_name(model: object, layers: str) -> None:
    names = [name for name, _ in model.named_parameters()]  # type: ignore[attr-defined]
    assert list(dict.fromkeys(map(layer_of, names))) == layers.split()
    for name in names:
        for side in ("encoder", "decoder"):
            if f"{side}." in f".{name}".partition(".layers")[0].partition(".block")[0]:
                assert layer_of(name).startswith(side[:3]), name

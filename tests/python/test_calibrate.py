"""kdn.calibrate: a small model with random weights is calibrated; the object, its codec and its mistakes."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from kdn import transformers as kt
from kdn.calibrate import cli, codec, evaluate, pipeline, rans, tables, texts, transform_object
from kdn.calibrate.gather import Context, Runner
from kdn.calibrate.layout import layer_groups
from kdn.calibrate.rotary import rotate
from kdn.spec import AttentionKind, DType, LayerSpec, ModelSpec, RopeSpec, RopeStyle

DIGEST = "11" * 32
SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
OPTIONS = pipeline.Options(groups=2, queries=8, samples=1, ratios=(4.0, 8.0), search_ratio=6.0, damping=0.1)


def model_of(config_class=hf.LlamaConfig, **changes):
    torch.manual_seed(7)
    config = config_class(**{**SIZES, **changes})
    return hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def spec_of(model):
    spec = kt.model_spec(model, None, weights_digest=DIGEST, tokenizer_digest=DIGEST)
    return dataclasses.replace(spec, dtype=DType.BF16)


def contexts_of(count, tokens=96, continuation=16):
    drawn = torch.randint(1, 96, (count, tokens + continuation), generator=torch.Generator().manual_seed(3)).tolist()
    return [Context(f"text {i}", ids[:tokens], ids[tokens:]) for i, ids in enumerate(drawn)]


FINGERPRINT = hashlib.sha256(b"a model").digest()


def calibrate(model, options=OPTIONS, contexts=4):
    calibrator = pipeline.Calibrator(model, spec_of(model), FINGERPRINT, options, lambda message: None)
    return calibrator.run(contexts_of(contexts))


@pytest.fixture(scope="module")
def llama():
    return model_of()


@pytest.fixture(scope="module")
def calibrated(llama):
    found = calibrate(llama)
    return found, transform_object.write(found.made, spec_of(llama))


def test_object_reads_back_as_it_was_written(llama, calibrated):
    found, data = calibrated
    again = transform_object.read(data, spec_of(llama), FINGERPRINT)
    assert [(g.layer, g.layer_count) for g in again.groups] == [(0, 2), (2, 1)]
    assert [level.ratio for level in again.levels] == [4.0, 8.0]
    assert transform_object.write(again, spec_of(llama)) == data
    for ours, theirs in zip(found.made.groups, again.groups):
        assert np.array_equal(ours.queries, theirs.queries)
        assert all(np.array_equal(a.matrix, b.matrix) for a, b in zip(ours.bases, theirs.bases))


def test_calibration_is_the_same_for_a_seed(llama, calibrated):
    again = transform_object.write(calibrate(llama).made, spec_of(llama))
    assert again == calibrated[1]
    other = calibrate(llama, dataclasses.replace(OPTIONS, seed=2))
    assert transform_object.write(other.made, spec_of(llama)) != again


def test_levels_have_their_ratio_and_finer_ones_less_divergence(calibrated):
    fine, coarse = calibrated[0].measured
    assert abs(fine["real_ratio"] / 4 - 1) < 0.05 and abs(coarse["real_ratio"] / 8 - 1) < 0.05
    assert fine["step"] < coarse["step"] and 0 < fine["kl"] < coarse["kl"]


def test_every_truncation_and_other_models_are_refused(llama, calibrated):
    data, spec = calibrated[1], spec_of(llama)
    for size in range(0, len(data), 97):
        with pytest.raises(transform_object.ObjectError):
            transform_object.read(data[:size], spec, FINGERPRINT)
    with pytest.raises(transform_object.ObjectError, match="another model"):
        transform_object.read(data, spec, bytes(32))
    with pytest.raises(transform_object.ObjectError, match="follow"):
        transform_object.read(data + bytes(16), spec, FINGERPRINT)


def test_objects_of_the_other_implementation_are_read_alike():
    corpus = Path(__file__).resolve().parents[1] / "fuzz" / "corpus" / "transform_object"
    layers = (LayerSpec(AttentionKind.FULL, 0, 2, 32, 16, 0),) * 3 + (LayerSpec(AttentionKind.LATENT, 0, 1, 64, 0, 0),)
    spec = ModelSpec(bytes([1]) * 32, bytes([1]) * 32, DType.BF16, (RopeSpec(),), layers)
    data = (corpus / "three-groups").read_bytes()
    made = transform_object.read(data, spec, data[8:40])
    assert [(g.layer, g.layer_count, [b.kind for b in g.bases]) for g in made.groups] == [
        (0, 1, [0, 1]),
        (1, 2, [2]),
        (3, 1, [0]),
    ]
    assert transform_object.write(made, spec) == data
    for name in ("three-groups-cut", "overlap"):
        with pytest.raises(transform_object.ObjectError):
            transform_object.read((corpus / name).read_bytes(), spec, data[8:40])


@pytest.mark.parametrize("kind", ["joint", "separate"])
def test_tile_decodes_to_what_was_quantised(llama, calibrated, kind):
    found = calibrated[0] if kind == "separate" else calibrate(llama, dataclasses.replace(OPTIONS, joint=True))
    spec, made = spec_of(llama), found.made
    observed = Runner(llama, spec).observe(contexts_of(1)[0])
    group = made.groups[0]
    coder = evaluate.Coder(spec, made)
    part = coder.prepare(observed)[0]
    step = made.levels[0].step
    classes = part.classes.copy()
    coded = [codec.quantise(b, y, step - 8 * classes) for b, y in zip(group.bases, part.coefficients)]
    classes[[0, 5]] = tables.RAW_ROW
    levels = [np.where((classes == tables.RAW_ROW)[:, None], 0, one.levels) for one in coded]
    rows = [evaluate.base_rows(spec, group, base.kind, observed.k, observed.v) for base in group.bases]
    raw = transform_object.to_bf16(np.concatenate(rows, 1)[[0, 5]])
    tile = rans.Tile(step, 0, 0, classes, levels, raw)
    data = rans.write_tile(group, tile)
    again = rans.read_tile(group, len(classes), data)
    assert np.array_equal(again.classes, classes) and np.array_equal(again.raw, raw)
    assert all(np.array_equal(a, b) for a, b in zip(again.levels, levels))
    whole = classes != tables.RAW_ROW
    for base, one, decoded in zip(group.bases, coded, rans.decode_rows(group, again)):
        expected = codec.synthesise(base, one.values, step - 8 * part.classes)
        assert np.array_equal(decoded[whole], expected[whole])
    # The tables' cross-entropy is what the coder writes, but for the states and the last words.
    predicted = sum(one.bits[whole].sum() for one in coded) / 8
    assert abs(len(data) - 144 - raw.nbytes - predicted) < 0.02 * predicted + 80


@pytest.mark.parametrize("damage", ["truncated", "word", "state"])
def test_damaged_tile_is_refused_or_ends_wrong(llama, calibrated, damage):
    group = calibrated[0].made.groups[0]
    levels = [np.ones((32, len(base.sigmas)), np.int32) for base in group.bases]
    step = calibrated[0].made.levels[0].step
    for base, one in zip(group.bases, levels):
        one[:, codec.table_indices(base, step) < 0] = 0
    raw = np.zeros((0, sum(len(base.means) for base in group.bases)), np.uint16)
    data = bytearray(rans.write_tile(group, rans.Tile(step, 0, 0, np.zeros(32, np.int32), levels, raw)))
    if damage == "truncated":
        data = data[:-2]
    else:
        data[{"word": 150, "state": 20}[damage]] ^= 1
    with pytest.raises(rans.TileError):
        rans.read_tile(group, 32, bytes(data))


def test_escapes_and_bypass_bits_survive_a_tile():
    # One coefficient of each size of sigma, from a half step to hundreds of steps.
    sigmas = np.arange(36, -5, -1).astype(np.int8)[:32]
    base = transform_object.Base(
        transform_object.BASE_K, np.zeros(32, np.float32), np.ones(32, np.float32), sigmas, np.eye(32, dtype=np.int8)
    )
    group = transform_object.Group(0, 1, 0, 2, [base], np.empty(0))
    generator = np.random.default_rng(5)
    q = np.rint(generator.standard_t(2, (40, 32)) * 2.0 ** (sigmas / 4)).clip(-1023, 1023).astype(np.int32)
    q[:, codec.table_indices(base, 0) < 0] = 0
    raw = np.zeros((0, 32), np.uint16)
    data = rans.write_tile(group, rans.Tile(0, 3, 0, np.zeros(40, np.int32), [q], raw))
    again = rans.read_tile(group, 40, data)
    assert np.array_equal(again.levels[0], q) and again.group_index == 3
    assert int.from_bytes(data[12:16], "little") > 0


def test_gradients_are_those_of_the_divergence(llama):
    spec = dataclasses.replace(spec_of(llama), dtype=DType.FP32)
    runner = Runner(llama, spec)
    observed = runner.observe(contexts_of(1)[0])
    gradients = next(runner.gradients(observed, 1, torch.Generator().manual_seed(1)))
    log_p = runner.reference(observed)
    drawn = torch.multinomial(log_p.exp(), 1, generator=torch.Generator().manual_seed(1))
    delta = torch.randn(observed.k[1].shape, generator=torch.Generator().manual_seed(2)) * 1e-2
    scores = []
    for sign in (1, -1):
        k = list(observed.k)
        k[1] = k[1] + sign * delta
        after = runner.log_probabilities(runner.rotated(k, observed.v), observed.context.continuation)
        scores.append(float(after.gather(1, drawn).sum()))
    expected = float((gradients[1][0] * delta).sum())
    assert abs((scores[0] - scores[1]) / 2 - expected) < 0.02 * abs(expected) + 1e-4


@pytest.mark.parametrize("style", [RopeStyle.HALF_SPLIT, RopeStyle.INTERLEAVED])
def test_rotation_back_undoes_a_rotation(style):
    rope = RopeSpec(style, 8, 4, tuple(10.0**-i for i in range(4)), 1.5)
    x = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(4))
    there = rotate(rope, x, torch.arange(6))
    assert torch.equal(there[..., :4], x[..., :4]) and not torch.allclose(there, x)
    assert torch.allclose(rotate(rope, there, torch.arange(6), back=True), x, atol=1e-6)


def test_sliding_windows_and_query_norms_are_calibrated():
    model = model_of(
        hf.Gemma3TextConfig,
        sliding_window=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        query_pre_attn_scalar=16,
    )
    found = calibrate(model, dataclasses.replace(OPTIONS, groups=5))
    assert [(g.layer, g.layer_count) for g in found.made.groups] == [(0, 2), (2, 1)]
    assert found.measured[0]["kl"] < found.measured[1]["kl"]


def test_groups_end_at_bands_and_wide_ones_are_refused(llama):
    spec = spec_of(llama)
    assert layer_groups(spec, 5, 256, False) == [(0, 3)]
    # 16 channels of K and V, two bytes: 64 KiB tokens fill a band with one layer.
    assert layer_groups(spec, 5, 1 << 16, False) == [(0, 1), (1, 1), (2, 1)]
    wide = dataclasses.replace(spec, layers=tuple(dataclasses.replace(at, num_kv_heads=200) for at in spec.layers))
    with pytest.raises(ValueError, match="use smaller groups"):
        layer_groups(wide, 2, 256, False)


def test_one_context_is_not_enough(llama):
    with pytest.raises(pipeline.CalibrationError, match="at least two contexts"):
        calibrate(llama, contexts=1)


def test_shared_ngrams_counts_what_two_sets_have_in_common():
    left, right = contexts_of(2)
    assert texts.shared_ngrams([left], [right]) == 0
    mixed = Context("mixed", right.ids[:20] + left.ids[30:50], [])
    assert texts.shared_ngrams([left], [mixed]) == 8


def test_texts_come_from_files_folders_and_json_lines(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("second")
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "1", "text": "a longer text"}) + "\n")
    assert [text for _, text in texts.read_texts([str(tmp_path)])] == ["a longer text", "second"]
    (tmp_path / "c.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(texts.TextError, match="UTF-8"):
        texts.read_texts([str(tmp_path)])
    with pytest.raises(texts.TextError, match="does not exist"):
        texts.read_texts([str(tmp_path / "none")])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["smollm2", "--object", "o"], "no texts are given"),
        (["smollm2", "t", "--object", "none/o"], "does not exist"),
        (["smollm2", "t", "--object", "o", "--damping", "0"], "--damping"),
        (["smollm2", "t"], "--server HOST:PORT"),
    ],
)
def test_wrong_command_lines_say_what_to_give(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


class FakeServer:
    """Takes the calls of kdn.Client that the command makes."""

    def __init__(self):
        self.calls = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def register_model(self, spec, chunk_tokens):
        self.calls.append(("register", len(spec.layers), chunk_tokens))
        return "model"

    def put_calibration(self, data, model):
        self.calls.append(("put", data, model))


def test_command_writes_the_object_and_puts_it_into_a_server(llama, tmp_path, monkeypatch, capsys):
    server = FakeServer()
    tokenizer = lambda text: {"input_ids": [1 + ord(at) % 95 for at in text]}  # noqa: E731
    monkeypatch.setattr(cli, "_client", lambda arguments: server)
    monkeypatch.setattr(cli, "_load", lambda name, dtype: cli._Loaded(model_of(), tokenizer, DIGEST))
    spec = spec_of(llama)
    monkeypatch.setattr(kt, "model_spec", lambda *args, **kwargs: spec)
    monkeypatch.setattr("kdn.client.encode_spec", lambda spec: b"a model", raising=False)
    (tmp_path / "text.txt").write_text("".join(chr(32 + (i * i + i // 7) % 90) for i in range(700)))
    target = tmp_path / "o.kdno"
    arguments = ["m", str(tmp_path / "text.txt"), "--object", str(target), "--server", "host:1", "-o", "json"]
    arguments += ["--context-tokens", "128", "--continuation-tokens", "16", "--queries", "4", "--samples", "1"]
    arguments += ["--damping", "0.1", "--no-step-search"]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [call[0] for call in server.calls] == ["register", "register", "put"]
    assert server.calls[2] == ("put", target.read_bytes(), "model")
    assert result["digest"] == hashlib.sha256(target.read_bytes()).hexdigest() and "contexts; 7" in err
    assert list(tmp_path.glob(".kdn-calibrate-*")) == []


def test_help_is_printed_without_loading_a_model(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    assert stopped.value.code == 0 and "--groups" in capsys.readouterr().out

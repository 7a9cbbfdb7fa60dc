"""The golden tiles of profile transform, which the C++ coders made, read and made again by the reference in NumPy."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from kdn.calibrate import codec, rans, tables, transform_object  # noqa: E402
from kdn.spec import AttentionKind, DType, LayerSpec, ModelSpec, RopeSpec  # noqa: E402

GOLDEN = Path(__file__).resolve().parents[1] / "kernels" / "codec" / "golden"
TOKENS = 37


def read_object(dtype: str) -> transform_object.TransformObject:
    layers = (LayerSpec(AttentionKind.FULL, 0, 2, 32, 16, 0),) * 3
    spec = ModelSpec(bytes([1]) * 32, bytes([1]) * 32, DType.BF16, (RopeSpec(),), layers)
    data = (GOLDEN / f"{dtype}.transform.object").read_bytes()
    return transform_object.read(data, spec, data[8:40])


def to_bf16(values: np.ndarray) -> np.ndarray:
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


@pytest.mark.parametrize("group_index", (0, 1))
@pytest.mark.parametrize("dtype", ("bf16", "fp16", "fp8_e4m3"))
def test_tiles_are_read_and_written_alike(dtype, group_index):
    group = read_object(dtype).groups[group_index]
    coded = (GOLDEN / f"{dtype}.transform-{group_index}").read_bytes()
    tile = rans.read_tile(group, TOKENS, coded)
    assert (tile.group_index, tile.object_index) == (group_index, group_index)
    assert rans.write_tile(group, tile) == coded


@pytest.mark.parametrize("group_index", (0, 1))
def test_levels_and_rows_are_the_same(group_index):
    group = read_object("bf16").groups[group_index]
    tile = rans.read_tile(group, TOKENS, (GOLDEN / f"bf16.transform-{group_index}").read_bytes())
    rows = np.frombuffer((GOLDEN / f"bf16.transform-{group_index}.rows").read_bytes(), "<u2")
    decoded = np.frombuffer((GOLDEN / f"bf16.transform-{group_index}.decoded").read_bytes(), "<u2")
    coded = tile.classes != tables.RAW_ROW
    begin = 0
    for base, made, levels in zip(group.bases, rans.decode_rows(group, tile), tile.levels):
        width = len(base.means)
        part = slice(TOKENS * begin, TOKENS * (begin + width))
        expected = decoded[part].reshape(TOKENS, width)
        assert np.array_equal(to_bf16(made)[coded], expected[coded])
        assert np.array_equal(tile.raw[:, begin : begin + width], expected[~coded])
        values = (rows[part].astype(np.uint32) << 16).view(np.float32).reshape(TOKENS, width)
        y = codec.coefficients(base, codec.analysis_of(base), values[coded], exact=True)
        quantised = codec.quantise(base, y, tile.step - 8 * tile.classes[coded])
        assert quantised.fits.all()
        assert np.array_equal(quantised.levels, levels[coded])
        begin += width

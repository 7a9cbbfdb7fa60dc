"""Describes arrays of KV to the library: pointers and strides, no copies.

NumPy arrays and CPU torch tensors are taken as they lie in memory, whatever their strides.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from ._native import ffi, lib
from .spec import DType, ModelSpec

# Element types a NumPy array or torch tensor may have for each DType. Integers of the same width carry raw bits: NumPy has
# no bfloat16 and no fp8 of its own.
_ACCEPTED = {
    DType.BF16: {"bfloat16", "uint16", "int16"},
    DType.FP16: {"float16", "uint16", "int16"},
    DType.FP8_E4M3: {"float8_e4m3fn", "uint8", "int8"},
    DType.FP8_E5M2: {"float8_e5m2", "uint8", "int8"},
    DType.FP32: {"float32", "uint32", "int32"},
}
_ITEM_BYTES = {DType.BF16: 2, DType.FP16: 2, DType.FP8_E4M3: 1, DType.FP8_E5M2: 1, DType.FP32: 4}


@dataclasses.dataclass(frozen=True)
class PagedKv:
    """KV in fixed-size blocks, as engines with paged caches hold it.

    layers: one (k, v) a layer, each array with the axes that `axes` names: b physical block, t token in the block,
      h KV head, d channel; any order, any strides. With the default axes the shapes are
      [blocks, kv_heads, block_tokens, channels]; blocks and kv_heads are the same for k and v, kv_heads also for every
      layer. The v of latents is None.
    blocks: [ceil(num_tokens / block_tokens)] or longer: physical block of tokens [0, block_tokens),
      [block_tokens, 2 * block_tokens), ...
    block_tokens: tokens in a block.
    num_tokens: tokens that the call is about.
    """

    layers: Sequence[tuple[Any, Any]]
    blocks: Sequence[int]
    block_tokens: int
    num_tokens: int
    axes: str = "bhtd"


def integers(values: Iterable[Any], name: str) -> list[int]:
    """The values of a one-dimensional sequence, NumPy array or tensor; what is not an integer is refused, not cut."""
    try:
        return list(map(operator.index, values.tolist() if hasattr(values, "tolist") else values))
    except TypeError as error:
        raise TypeError(f"{name} must be a one-dimensional sequence of integers: {error}") from None


@dataclasses.dataclass(frozen=True)
class _Array:
    """An array's memory: address, and bytes per step of each axis."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    on_device: bool


def _describe(array: Any, dtype: DType, writable: bool, where: str) -> _Array:
    name = str(array.dtype).rpartition(".")[2]
    if name not in _ACCEPTED[dtype]:
        raise ValueError(f"{where} has elements of {name}, the model's KV is {dtype.name} ({_ACCEPTED[dtype]})")
    size = _ITEM_BYTES[dtype]
    if hasattr(array, "data_ptr"):
        strides = tuple(step * size for step in array.stride())
        return _Array(array.data_ptr(), tuple(array.shape), strides, array.device.type != "cpu")
    if hasattr(array, "__array_interface__"):
        address, read_only = array.__array_interface__["data"]
        if writable and read_only:
            raise ValueError(f"{where} is read-only")
        return _Array(address, tuple(array.shape), tuple(array.strides), False)
    raise TypeError(f"{where} is a {type(array).__name__}: NumPy arrays and torch tensors are taken")


def _plane(plane: Any, array: _Array, axes: str, first_row: int) -> None:
    steps = dict(zip(axes, array.strides))
    # The library addresses rows by token: data points at where token 0 would be, absent rows are never touched.
    plane.data = ffi.cast("void*", array.address - first_row * steps["t"])
    plane.token_stride_bytes = steps["t"]
    plane.head_stride_bytes = steps["h"]
    plane.channel_stride_bytes = steps["d"]
    plane.block_stride_bytes = steps.get("b", 0)


class _ViewBuilder:
    """Fills a kdn_view and keeps everything alive that it points to."""

    def __init__(self, spec: ModelSpec, num_layers: int, writable: bool):
        if num_layers != len(spec.layers):
            raise ValueError(f"kv has {num_layers} layers, the model {len(spec.layers)}")
        self._spec = spec
        self._writable = writable
        self.keep: list[Any] = []
        self.view = ffi.new("kdn_view*")
        lib.kdn_view_init(self.view)
        self._layers = ffi.new("kdn_layer_view[]", num_layers)
        self.view.dtype = int(spec.dtype)
        self.view.layers = self._layers
        self.view.num_layers = num_layers
        self.keep.append(self._layers)

    def add_layer(self, index: int, arrays: tuple[Any, Any], axes: str, first_row: int) -> _Array:
        layer, model = self._layers[index], self._spec.layers[index]
        layer.layer = index
        layer.first_row = first_row
        described = None
        for plane, array, dim, name in (
            (layer.k, arrays[0], model.k_head_dim, "k"),
            (layer.v, arrays[1], model.v_head_dim, "v"),
        ):
            where = f"{name} of layer {index}"
            if dim == 0:
                if array is not None:
                    raise ValueError(f"{where} is given, but the model has latents only")
                continue
            held = _describe(array, self._spec.dtype, self._writable, where)
            self._check(held, axes, dim, where)
            described = described or held
            sizes, others = dict(zip(axes, held.shape)), dict(zip(axes, described.shape))
            if any(sizes[axis] != others[axis] for axis in axes if axis != "d"):
                raise ValueError(
                    f"k and v of layer {index} have shapes {described.shape} and {held.shape}: "
                    "heads, rows and blocks must agree"
                )
            _plane(plane, held, axes, first_row)
            self.keep.append(array)
            if held.on_device:
                self.view.memory = lib.KDN_MEMORY_DEVICE
        return described

    def _check(self, array: _Array, axes: str, dim: int, where: str) -> None:
        if len(array.shape) != len(axes) or dict(zip(axes, array.shape))["d"] != dim:
            raise ValueError(f"{where} has shape {array.shape}: wanted are axes '{axes}' with {dim} channels")
        # As torch.Tensor.expand and numpy.broadcast_to make them: what was written last would stand for all.
        if self._writable and any(size > 1 and step == 0 for size, step in zip(array.shape, array.strides)):
            raise ValueError(f"{where} has strides {array.strides}: elements share memory, nothing can be loaded there")


def _layer_parts(layer: Any) -> tuple[Any, Any, int]:
    if hasattr(layer, "k"):
        return layer.k, layer.v, getattr(layer, "first_row", 0)
    if len(layer) == 2:
        return layer[0], layer[1], 0
    return layer[0], layer[1], layer[2]


def contiguous_view(spec: ModelSpec, kv: Sequence[Any], head_begin: int, writable: bool) -> _ViewBuilder:
    """A view of one (k, v) or (k, v, first_row) a layer, arrays shaped [kv_heads, rows, channels].

    Rows are tokens first_row, first_row + 1, ... of the call; all layers end at the same token.
    """
    builder = _ViewBuilder(spec, len(kv), writable)
    heads: Optional[int] = None
    end: Optional[int] = None
    for index, layer in enumerate(kv):
        k, v, first_row = _layer_parts(layer)
        described = builder.add_layer(index, (k, v), "htd", first_row)
        layer_end = first_row + described.shape[1]
        heads = described.shape[0] if heads is None else heads
        end = layer_end if end is None else end
        if described.shape[0] != heads or layer_end != end:
            raise ValueError(f"layer {index} holds {described.shape[0]} heads up to token {layer_end}, others {heads}, {end}")
    builder.view.num_tokens = end
    builder.view.head_begin = head_begin
    builder.view.head_count = heads
    return builder


def paged_view(spec: ModelSpec, kv: PagedKv, head_begin: int, writable: bool) -> _ViewBuilder:
    """A view of a paged cache: shapes as PagedKv says."""
    if sorted(kv.axes) != ["b", "d", "h", "t"]:
        raise ValueError(f"axes '{kv.axes}': each of b, t, h and d must be there once")
    blocks = integers(kv.blocks, "blocks")
    builder = _ViewBuilder(spec, len(kv.layers), writable)
    heads = None
    for index, arrays in enumerate(kv.layers):
        described = builder.add_layer(index, tuple(arrays), kv.axes, 0)
        sizes = dict(zip(kv.axes, described.shape))
        if sizes["t"] != kv.block_tokens or any(not 0 <= block < sizes["b"] for block in blocks):
            raise ValueError(f"layer {index} has {sizes['b']} blocks of {sizes['t']} tokens: the block table does not fit")
        heads = sizes["h"] if heads is None else heads
        if sizes["h"] != heads:
            raise ValueError(f"layer {index} holds {sizes['h']} heads, others {heads}")
    table = ffi.new("int32_t[]", blocks)
    builder.keep.append(table)
    builder.view.blocks = table
    builder.view.num_blocks = len(blocks)
    builder.view.block_tokens = kv.block_tokens
    builder.view.num_tokens = kv.num_tokens
    builder.view.head_begin = head_begin
    builder.view.head_count = heads
    return builder


def view_of(spec: ModelSpec, kv: Any, head_begin: int, writable: bool) -> _ViewBuilder:
    """A view of whatever `Client.store` and `Client.retrieve` take; shapes as `Client` and `PagedKv` say."""
    if isinstance(kv, PagedKv):
        return paged_view(spec, kv, head_begin, writable)
    return contiguous_view(spec, kv, head_begin, writable)

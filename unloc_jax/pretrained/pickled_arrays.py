"""Reads dictionaries of arrays from a pickle without running it.

A pickle is a program: unpickling one from somebody else calls what it names, and even NumPy's own functions crash or
allocate gigabytes when they are called with forged arguments. Here its opcodes are read by the standard library's
parser, and only what `np.save` writes for a dictionary of arrays has a meaning.
"""

import math
import mmap
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import numpy as np

# A CLIP has fewer than 1,000 arrays, of about 40 opcodes each. Every opcode may make one small object.
_MOST_OPCODES = 400_000
_MOST_DIMENSIONS = 32
_MOST_BYTES = 2**48  # in one array's shape
_OUT_OF_ORDER = "its opcodes are out of order"
_NUMBERS = "fiub"  # kinds of dtypes


class _Pending:
    """An array or dtype whose content (pickle calls it the state) follows in a later opcode."""

    def __init__(self, kind: str, dtype: np.dtype | None = None):
        self.kind = kind  # "array" or "dtype"
        self.dtype = dtype
        self.value: Any = None  # the array, or the list of an array of objects


def read_pickled_arrays(stream: BinaryIO | mmap.mmap) -> dict[str, np.ndarray]:
    """Reads one pickle that holds a dictionary of arrays, alone or as the only item of an array of objects.

    Args:
      stream: Positioned at the pickle's first byte; protocols 0 to 5. It is read once, and nothing larger than what
        it holds is allocated.

    Returns:
      Arrays by name, read-only, of the stored shapes and dtypes (numbers only).

    Raises:
      ValueError: The pickle is damaged or holds something else; the message names what it asks for.
    """
    root = _settled(_interpret(stream))
    if isinstance(root, list) and len(root) == 1:
        root = _settled(root[0])
    if not isinstance(root, dict):
        raise ValueError(f"it holds a {type(root).__name__} instead of a dictionary of arrays")
    arrays = {}
    for name, value in root.items():
        array = _settled(value)
        if not isinstance(name, str):
            raise ValueError("a name in its dictionary is not a text")
        if isinstance(array, bool | int | float):
            array = np.asarray(array)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in _NUMBERS:
            raise ValueError(f"{name} is not an array of numbers")
        arrays[name] = array
    # One array under many names would be converted, so copied, once per name.
    if sum(array.nbytes for array in arrays.values()) > 2 * stream.tell():
        raise ValueError("many names share one array")
    return arrays


def _interpret(stream: BinaryIO | mmap.mmap) -> Any:
    """Returns the top of the stack at the end of the program."""
    stack: list[Any] = []
    marks: list[int] = []  # heights of the stack
    memo: dict[int, Any] = {}

    def pop(kind: type = object) -> Any:
        if (marks and len(stack) == marks[-1]) or not isinstance(stack[-1], kind):
            raise ValueError(_OUT_OF_ORDER)
        return stack.pop()

    def pop_to_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    def add_items(flat: list[Any]) -> None:
        target = stack[-1]
        if not isinstance(target, dict) or len(flat) % 2:
            raise ValueError(_OUT_OF_ORDER)
        target.update(zip(flat[::2], flat[1::2], strict=True))

    def add_elements(values: list[Any]) -> None:
        if not isinstance(stack[-1], list):
            raise ValueError(_OUT_OF_ORDER)
        stack[-1].extend(values)

    def tuple_of(count: int) -> None:
        values = [pop() for _ in range(count)][::-1]
        stack.append(tuple(values))

    def set_item() -> None:
        value, name = pop(), pop()
        add_items([name, value])

    def append() -> None:
        add_elements([pop()])

    def reduce() -> None:
        arguments, function = pop(tuple), pop(_Global)
        stack.append(function.call(arguments))

    def build() -> None:
        state = pop(tuple)
        if not isinstance(stack[-1], _Pending):
            raise ValueError(_OUT_OF_ORDER)
        _build(stack[-1], state)

    def global_of_two() -> None:
        name, module = pop(str), pop(str)
        stack.append(_Global(f"{module} {name}"))

    without_argument: dict[str, Callable[[], Any]] = {
        "MARK": lambda: marks.append(len(stack)),
        "NONE": lambda: stack.append(None),
        "NEWTRUE": lambda: stack.append(True),
        "NEWFALSE": lambda: stack.append(False),
        "EMPTY_TUPLE": lambda: stack.append(()),
        "EMPTY_LIST": lambda: stack.append([]),
        "EMPTY_DICT": lambda: stack.append({}),
        "TUPLE1": lambda: tuple_of(1),
        "TUPLE2": lambda: tuple_of(2),
        "TUPLE3": lambda: tuple_of(3),
        "TUPLE": lambda: stack.append(tuple(pop_to_mark())),
        "LIST": lambda: stack.append(pop_to_mark()),
        "APPEND": append,
        "APPENDS": lambda: add_elements(pop_to_mark()),
        "SETITEM": set_item,
        "SETITEMS": lambda: add_items(pop_to_mark()),
        "STACK_GLOBAL": global_of_two,
        "REDUCE": reduce,
        "BUILD": build,
        "MEMOIZE": lambda: memo.__setitem__(len(memo), stack[-1]),
    }
    literals = {
        "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
        "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
        "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    }  # fmt: skip
    try:
        argument: Any
        for count, (opcode, argument, _) in enumerate(pickletools.genops(cast(BinaryIO, stream))):
            name = opcode.name
            if count >= _MOST_OPCODES:
                raise ValueError(f"it has more than {_MOST_OPCODES:,} opcodes")
            if name in literals:
                stack.append(argument)
            elif name in without_argument:
                without_argument[name]()
            elif name == "GLOBAL":
                stack.append(_Global(argument))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "DICT":
                flat = pop_to_mark()
                stack.append({})
                add_items(flat)
            elif name == "STOP":
                break
            elif name not in ("PROTO", "FRAME"):
                raise ValueError(f"it has the opcode {name}, which no dictionary of arrays needs")
        (result,) = stack
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(_OUT_OF_ORDER) from error
    return result


class _Global:
    """A function or class that the pickle names ("MODULE NAME")."""

    def __init__(self, path: str):
        module, _, name = path.partition(" ")
        self.path = f"{module.replace('numpy._core', 'numpy.core')}.{name}"
        if self.path not in _CALLS:
            raise ValueError(f"it asks for {module}.{name}, which no dictionary of arrays needs")

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """Returns what the named function would return; raises ValueError for arguments that `np.save` never writes."""
        return _CALLS[self.path](arguments)


def _reconstruct(arguments: tuple[Any, ...]) -> _Pending:
    kind, shape, _ = arguments
    if not isinstance(kind, _Global) or kind.path != "numpy.ndarray" or shape != (0,):
        raise ValueError("its arrays are not NumPy's")
    return _Pending("array")


def _dtype(arguments: tuple[Any, ...]) -> _Pending:
    code = arguments[0]
    if not isinstance(code, str) or len(code) > 4:
        raise ValueError("its arrays are not numbers")
    try:
        dtype = np.dtype(code)
    except TypeError as error:
        raise ValueError(f"it has an array of {code!r}, which is not a kind of number") from error
    if dtype.kind not in _NUMBERS + "O":
        raise ValueError(f"it has an array of {code!r}, which is not a kind of number")
    return _Pending("dtype", dtype)


def _scalar(arguments: tuple[Any, ...]) -> np.ndarray:
    dtype, data = arguments
    return _array(data, dtype, (), "C")


def _from_buffer(arguments: tuple[Any, ...]) -> np.ndarray:
    data, dtype, shape, order = arguments
    return _array(data, dtype, shape, order)


def _encode(arguments: tuple[Any, ...]) -> bytes:
    """Returns the bytes that protocol 2 writes as a text."""
    text, encoding = arguments
    if encoding != "latin1":
        raise ValueError(_OUT_OF_ORDER)
    return text.encode("latin1")


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    """Returns what protocols 0 to 2 write for no bytes."""
    if arguments:
        raise ValueError(_OUT_OF_ORDER)
    return b""


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise ValueError(_OUT_OF_ORDER)
    return {}


_CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": _dtype,
    "numpy.ndarray": _reconstruct,  # only an argument of _reconstruct; called, its arguments do not fit
    "_codecs.encode": _encode,
    "__builtin__.bytes": _no_bytes,
    "collections.OrderedDict": _ordered_dict,
}


def _build(target: _Pending, state: tuple[Any, ...]) -> None:
    """Gives an array or dtype its content.

    Args:
      target: It is changed.
      state: (version, byte order, …) of a dtype; (version, shape, dtype, is Fortran's order, content) of an array.
    """
    if target.kind == "dtype":
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise ValueError("it has a dtype with fields")
        if order in ("<", ">"):
            assert target.dtype is not None
            target.dtype = target.dtype.newbyteorder(order)
        return
    _, shape, dtype, is_fortran, content = state
    if isinstance(content, list):  # of an array of objects
        target.value = content
    else:
        target.value = _array(content, dtype, shape, "F" if is_fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Returns an array over `data`, whose size must fit shape and dtype."""
    if not isinstance(dtype, _Pending) or dtype.dtype is None or dtype.dtype.kind not in _NUMBERS:
        raise ValueError("it has an array of objects")
    if isinstance(data, str):  # written by Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray) or order not in ("C", "F"):
        raise ValueError(_OUT_OF_ORDER)
    if (
        not isinstance(shape, tuple)
        or len(shape) > _MOST_DIMENSIONS
        or not all(type(size) is int and 0 <= size < _MOST_BYTES for size in shape)
        or math.prod(shape) * dtype.dtype.itemsize != len(data)
    ):
        raise ValueError(f"an array of {len(data)} bytes has another shape")
    return np.frombuffer(data, dtype.dtype).reshape(shape, order=order)


def _settled(value: Any) -> Any:
    """Returns the array or list that stands behind a value."""
    return value.value if isinstance(value, _Pending) else value

"""Frames: tables as those of pyarrow, pandas and polars."""

from __future__ import annotations

from fastsmaps._arguments import Any
from fastsmaps._model.values import Shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from numpy import ndarray
    from pandas import DataFrame
    from polars import DataFrame as PolarsFrame
    from pyarrow import Table
else:  # typing.get_type_hints() must resolve them where these packages are missing
    DataFrame = PolarsFrame = Table = ndarray = Any


class Frames(Shown):
    """A table that other packages can read: docs/arrow.md has the columns of each."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _batch(self) -> Any:
            """Return all columns as a pyarrow.RecordBatch; null for an unknown value."""

    def __arrow_c_schema__(self) -> object:
        """Return the columns as an Arrow schema (PyCapsule); DuckDB needs it before each query."""
        return self._batch().schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return the table as an Arrow stream (PyCapsule): for pyarrow.table(), polars.DataFrame().

        Raises ImportError without pyarrow.
        """
        return self._batch().__arrow_c_stream__(requested_schema)

    def to_arrow(self) -> Table:
        """Return the table as a pyarrow.Table: docs/arrow.md has its columns.

        Raises ImportError without pyarrow.
        """
        from fastsmaps._model import arrow

        return arrow.table_of(self._batch())

    def to_pandas(self) -> DataFrame:
        r"""Return the table as a pandas.DataFrame with the columns of to_arrow().

        Sizes are Int64, with pandas.NA for an unknown value. They are signed, so that differences
        are right; ``start``, ``end``, ``offset`` and ``inode`` are UInt64. Texts are str, and
        bytes that are not UTF-8 appear as ``\xff``; ``raw_path`` has the bytes of a path. Raises
        ImportError without pandas or pyarrow.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError(f"{error}: pip install pandas") from error
        from fastsmaps._model import arrow

        types = {"int64": pandas.Int64Dtype(), "uint64": pandas.UInt64Dtype()}
        return arrow.plain_table(self._batch()).to_pandas(
            types_mapper=lambda kind: types.get(str(kind))
        )

    def to_polars(self) -> PolarsFrame:
        r"""Return the table as a polars.DataFrame with the columns of to_arrow().

        Sizes are Int64, null for an unknown value. They are signed, so that differences are right;
        ``start``, ``end``, ``offset`` and ``inode`` are UInt64. Texts are String, and bytes that
        are not UTF-8 appear as ``\xff``; ``raw_path`` has the bytes of a path. Raises ImportError
        without polars or pyarrow.
        """
        try:
            import polars
        except ImportError as error:
            raise ImportError(f"{error}: pip install polars") from error
        from fastsmaps._model import arrow

        return polars.DataFrame(arrow.plain_table(self._batch()))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        """Return the rows as a numpy array of objects: pandas.DataFrame() makes columns of them.

        The objects are of a dataclass, with the values of to_pandas(). Raises ImportError without
        numpy or pyarrow.
        """
        from fastsmaps._model import arrow

        array = arrow.records(self._batch())
        return array if dtype is None else array.astype(dtype)

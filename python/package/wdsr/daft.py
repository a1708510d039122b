"""Upscales archives by Daft: `pip install wdsr[daft]`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import daft
from daft import DataType

from . import _rows

if TYPE_CHECKING:
    import pyarrow as pa

    import wdsr

__all__ = ["Upscaler", "upscale"]

_ROW = DataType.struct({field.name: DataType.from_arrow_type(field.type) for field in _rows.SCHEMA})


@daft.cls(use_process=False)
class Upscaler(_rows.Worker):
    """The class of `upscale`, for a query of your own.

    `Upscaler(out, options)` is a function of two columns, `source` and `target`.
    """

    @daft.method.batch(return_dtype=_ROW, batch_size=16)
    def __call__(self, source: daft.Series, target: daft.Series) -> pa.Array:
        """The rows of files, as structs."""
        pairs = zip(source.to_pylist(), target.to_pylist(), strict=True)
        return self.upscale(pairs).to_struct_array().combine_chunks()


def upscale(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | daft.DataFrame,
    out: str | os.PathLike[str],
    *,
    model: wdsr.Model | str | os.PathLike[str] | None = None,
    recursive: bool = False,
    resume: bool = True,
    threads: int = 1,
    **options: Any,  # noqa: ANN401
) -> daft.DataFrame:
    """Upscales images by Daft, with its local runner or that of a Ray cluster.

    Parameters
    ----------
    images : str, os.PathLike, iterable of them, or daft.DataFrame
        Images, folders and patterns, as for `wdsr.find_images`; or a dataframe with the columns
        `source` and `target` (paths), whose other columns are kept.
    out : str or os.PathLike
        The folder of the results, and of the manifests. All nodes must see it, and the images,
        under the same path.
    model
        As for `wdsr.upscale_file`. Each worker loads it once.
    recursive : bool, default False
        Whether to include subfolders.
    resume : bool, default True
        Whether to omit images whose results are up to date by the manifests in `out`.
    threads : int, default 1
        Threads of each worker.
    **options
        Further arguments of `wdsr.upscale_file`, such as `factor`, `format` or `timeout`.

    Returns
    -------
    daft.DataFrame
        A row for each image, as `wdsr.upscale_file` returns it. As every dataframe it is lazy:
        images are upscaled when it is collected or written.

    Raises
    ------
    OSError, ValueError
        As `wdsr.find_images`. What is wrong with an image is told by its row.
    """
    out = os.fspath(out)
    if isinstance(images, daft.DataFrame):
        frame = images
    else:
        frame = daft.from_pydict(_rows.found(images, out, recursive, options))
    upscaler = Upscaler(out if resume else None, {"model": model, "threads": threads, **options})
    kept = [daft.col(name) for name in frame.column_names if name not in _rows.SCHEMA.names]
    row = upscaler(daft.col("source"), daft.col("target")).alias("row")
    rows = frame.select(*kept, row)
    return rows.select(*kept, *(daft.col("row").get(name) for name in _rows.SCHEMA.names))

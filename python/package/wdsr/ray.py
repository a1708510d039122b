"""Upscales archives by Ray Data: `pip install wdsr[ray]`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import ray
import ray.data

from . import _rows

if TYPE_CHECKING:
    import pyarrow as pa

    import wdsr

__all__ = ["Upscaler", "upscale"]


class Upscaler(_rows.Worker):
    """The actor class of `upscale`, for a `map_batches` of your own with batch_format="pyarrow".

    A batch has the columns `source` and `target`; the rows of `wdsr.upscale_file` and the other
    columns of the batch come back.
    """

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Upscales the files of a batch."""
        sources, targets = (batch[name].to_pylist() for name in ("source", "target"))
        rows = self.upscale(zip(sources, targets, strict=True))
        for name in batch.column_names:
            if name not in rows.column_names:
                rows = rows.append_column(name, batch[name])
        return rows


def upscale(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | ray.data.Dataset,
    out: str | os.PathLike[str],
    *,
    model: wdsr.Model | str | os.PathLike[str] | None = None,
    recursive: bool = False,
    resume: bool = True,
    workers: int | None = None,
    threads: int = 1,
    batch_size: int = 16,
    **options: Any,  # noqa: ANN401
) -> ray.data.Dataset:
    """Upscales images by actors of a Ray cluster.

    Parameters
    ----------
    images : str, os.PathLike, iterable of them, or ray.data.Dataset
        Images, folders and patterns, as for `wdsr.find_images`; or a dataset with the columns
        `source` and `target` (paths), whose other columns are kept.
    out : str or os.PathLike
        The folder of the results, and of the manifests. All nodes must see it, and the images,
        under the same path.
    model
        As for `wdsr.upscale_file`. Each actor loads it once.
    recursive : bool, default False
        Whether to include subfolders.
    resume : bool, default True
        Whether to omit images whose results are up to date by the manifests in `out`. A batch that
        a killed actor had begun then continues after its last image.
    workers : int, optional
        Number of actors; by default as many as the processors of the cluster allow.
    threads : int, default 1
        Threads, and processors (`num_cpus`), of each actor.
    batch_size : int, default 16
        Images that are retried together if an actor dies.
    **options
        Further arguments of `wdsr.upscale_file`, such as `factor`, `format` or `timeout`.

    Returns
    -------
    ray.data.Dataset
        A row for each image, as `wdsr.upscale_file` returns it. As every dataset it is lazy: images
        are upscaled when it is consumed, such as by `write_parquet`. Consume it once, or
        `materialize` it.

    Raises
    ------
    OSError, ValueError
        As `wdsr.find_images`. What is wrong with an image is told by its row.
    """
    out = os.fspath(out)
    if isinstance(images, ray.data.Dataset):
        dataset = images
    else:
        columns = _rows.found(images, out, recursive, options)
        items = [
            {"source": source, "target": target}
            for source, target in zip(columns["source"], columns["target"], strict=True)
        ]
        blocks = -(-len(items) // batch_size)
        dataset = ray.data.from_items(items, override_num_blocks=blocks)
    if workers is None:
        ray.is_initialized() or ray.init()
        workers = max(1, int(ray.cluster_resources().get("CPU", 1) // threads))
    return dataset.map_batches(
        Upscaler,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=threads,
        fn_constructor_args=(
            out if resume else None,
            {"model": model, "threads": threads, **options},
        ),
    )

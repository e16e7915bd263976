"""TensorFlow's readers of the same files: queues as TensorFlow 1 had them, and tf.data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.readers import Turn, csv_of
from weiml.data.datasets.clicks import CATEGORIES, NUMBERS

__all__ = ["CONTESTANTS", "write_records"]

QUEUE_BATCH = 128
ROW_BATCH = 512
VECTOR_BATCH = 4096


def _tensorflow() -> Any:
    import tensorflow as tf

    return tf


def _defaults() -> list[Any]:
    return [[0.0]] * (1 + len(NUMBERS)) + [[""]] * len(CATEGORIES)


def write_records(folder: Path, rows: int) -> Path:
    """Write the first rows of the CSV as TFRecord of tf.train.Example, unless it is there."""
    path = folder / "rows.tfrecord"
    if path.exists():
        return path
    tf = _tensorflow()
    names = ("label", *NUMBERS)
    with tf.io.TFRecordWriter(str(path)) as writer, csv_of(folder).open() as file:
        next(file)
        for _, line in zip(range(rows), file, strict=False):
            fields = line.rstrip("\n").split(",")
            numbers = [float(field or 0) for field in fields[: len(names)]]
            feature = {
                name: tf.train.Feature(float_list=tf.train.FloatList(value=[number]))
                for name, number in zip(names, numbers, strict=True)
            }
            for name, text in zip(CATEGORIES, fields[len(names) :], strict=True):
                value = tf.train.BytesList(value=[text.encode()])
                feature[name] = tf.train.Feature(bytes_list=value)
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())
    return path


def _features(tf: Any) -> dict[str, Any]:
    numbers = {n: tf.io.FixedLenFeature([], tf.float32) for n in ("label", *NUMBERS)}
    return numbers | {n: tf.io.FixedLenFeature([], tf.string) for n in CATEGORIES}


def _queue(rows: int, dequeue: Callable[[Any], Any]) -> Turn:
    """Return a turn that runs a queue's graph until so many rows have come."""

    def turn() -> int:
        tf = _tensorflow()
        v1 = tf.compat.v1
        with tf.Graph().as_default(), v1.Session() as session:
            batch = v1.train.batch(dequeue(v1), QUEUE_BATCH, num_threads=1, capacity=32 * 128)
            session.run([v1.local_variables_initializer(), v1.global_variables_initializer()])
            coordinator = v1.train.Coordinator()
            threads = v1.train.start_queue_runners(session, coordinator)
            read = 0
            while read < rows:
                session.run(batch)
                read += QUEUE_BATCH
            coordinator.request_stop()
            session.run([])
            session.close()
            coordinator.join(threads, stop_grace_period_secs=10, ignore_live_threads=True)
        return read

    return turn


def queue_csv(folder: str, rows: str) -> Turn:
    """TensorFlow 1: string_input_producer, TextLineReader, decode_csv, train.batch."""

    def dequeue(v1: Any) -> Any:
        names = v1.train.string_input_producer([str(csv_of(Path(folder)))], shuffle=False)
        _, line = v1.TextLineReader(skip_header_lines=1).read(names)
        return v1.decode_csv(line, _defaults())

    return _queue(int(rows), dequeue)


def queue_records(folder: str, rows: str) -> Turn:
    """TensorFlow 1: string_input_producer, TFRecordReader, parse_single_example, train.batch."""

    def dequeue(v1: Any) -> Any:
        names = v1.train.string_input_producer([str(Path(folder) / "rows.tfrecord")], shuffle=False)
        _, record = v1.TFRecordReader().read(names)
        return v1.parse_single_example(record, _features(_tensorflow()))

    return _queue(int(rows), dequeue)


def _drained(batches: Any, size: int, rows: int) -> int:
    read = 0
    for _ in batches.take(-(-rows // size)):
        read += size
    return read


def data_rows(folder: str, rows: str) -> Turn:
    """tf.data: a line at a time through decode_csv, batches of 512, tuned by tf.data itself."""
    tf = _tensorflow()
    lines = tf.data.TextLineDataset(str(csv_of(Path(folder)))).skip(1)
    parsed = lines.map(
        lambda line: tf.io.decode_csv(line, _defaults()), num_parallel_calls=tf.data.AUTOTUNE
    )
    batches = parsed.batch(ROW_BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return lambda: _drained(batches, ROW_BATCH, int(rows))


def data_vectors(folder: str, rows: str) -> Turn:
    """tf.data: 4096 lines at a time through decode_csv."""
    tf = _tensorflow()
    lines = tf.data.TextLineDataset(str(csv_of(Path(folder)))).skip(1)
    batches = lines.batch(VECTOR_BATCH, drop_remainder=True).map(
        lambda block: tf.io.decode_csv(block, _defaults()), num_parallel_calls=tf.data.AUTOTUNE
    )
    ahead = batches.prefetch(tf.data.AUTOTUNE)
    return lambda: _drained(ahead, VECTOR_BATCH, int(rows))


def data_records(folder: str, rows: str) -> Turn:
    """tf.data: TFRecord, 4096 records at a time through parse_example."""
    tf = _tensorflow()
    records = tf.data.TFRecordDataset(str(Path(folder) / "rows.tfrecord"))
    batches = records.batch(VECTOR_BATCH, drop_remainder=True).map(
        lambda block: tf.io.parse_example(block, _features(tf)), num_parallel_calls=tf.data.AUTOTUNE
    )
    ahead = batches.prefetch(tf.data.AUTOTUNE)
    return lambda: _drained(ahead, VECTOR_BATCH, int(rows))


def records(folder: str, rows: str) -> Turn:
    """Write the TFRecord file that others read; no contestant."""
    return lambda: int(bool(write_records(Path(folder), int(rows)))) and int(rows)


CONTESTANTS: dict[str, Callable[..., Turn]] = {
    reader.__name__: reader
    for reader in (queue_csv, queue_records, data_rows, data_vectors, data_records, records)
}

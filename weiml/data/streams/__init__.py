"""Streams: windowed counts, labels and operations on events that never end, each counted once."""

from __future__ import annotations

from weiml.data.streams.base import EventSource, MemorySink, Positions, RawEvents, Sink
from weiml.data.streams.checkpoint import Checkpoint, Checkpoints
from weiml.data.streams.config import StreamConfig
from weiml.data.streams.decode import ArrowDecoder, CsvDecoder, Decoded, Decoder, JsonDecoder
from weiml.data.streams.dedup import Deduplicator
from weiml.data.streams.files import GrowingFiles
from weiml.data.streams.http import EventReceiver, ReceiverConfig
from weiml.data.streams.intake import Operations
from weiml.data.streams.join import LabelJoin, LabelJoinConfig
from weiml.data.streams.kafka import KafkaSource
from weiml.data.streams.kafka_sink import KafkaSink
from weiml.data.streams.measures import Count, Measure, Ratio, Sum
from weiml.data.streams.operators import EVENTS, LATE, Operator
from weiml.data.streams.quarantine import BadEvent, Quarantine, QuarantineConfig, bad_events
from weiml.data.streams.replay import QuarantinedEvents, replay
from weiml.data.streams.runner import StreamRun, StreamState, Until, run_stream
from weiml.data.streams.sinks import CallSink, PartFiles
from weiml.data.streams.watermark import Watermarks, event_times
from weiml.data.streams.windows import WindowConfig, Windows, key_hashes, window_features

__all__ = [
    "EVENTS",
    "LATE",
    "ArrowDecoder",
    "BadEvent",
    "CallSink",
    "Checkpoint",
    "Checkpoints",
    "Count",
    "CsvDecoder",
    "Decoded",
    "Decoder",
    "Deduplicator",
    "EventReceiver",
    "EventSource",
    "GrowingFiles",
    "JsonDecoder",
    "KafkaSink",
    "KafkaSource",
    "LabelJoin",
    "LabelJoinConfig",
    "Measure",
    "MemorySink",
    "Operations",
    "Operator",
    "PartFiles",
    "Positions",
    "Quarantine",
    "QuarantineConfig",
    "QuarantinedEvents",
    "Ratio",
    "RawEvents",
    "ReceiverConfig",
    "Sink",
    "StreamConfig",
    "StreamRun",
    "StreamState",
    "Sum",
    "Until",
    "Watermarks",
    "WindowConfig",
    "Windows",
    "bad_events",
    "event_times",
    "key_hashes",
    "replay",
    "run_stream",
    "window_features",
]

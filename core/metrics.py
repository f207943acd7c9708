"""Metrics of the requests that have run a model. The module core.metrics_text exports the metrics of requests.

The values of all labels are from fixed sets, such as names of operations, encoding pipelines, codings and error codes.
A label never contains a value that a client has sent.
"""

from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Counter

from core.histogram import Histogram, HistogramSeries
from core.request_record import OK, RequestRecord

UNKNOWN = "unknown"
"""Value of a label if the actual value is unknown because the request failed before planning."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_SHORT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)

_Key: TypeAlias = tuple[str, str | None, str | None, str | None, str | None, str]


@dataclass(frozen=True, slots=True)
class _Series:
    """The time series that a request updates.

    The time series are looked up only once for each combination of label values.
    """

    requests: Counter
    duration: HistogramSeries
    queue_wait: HistogramSeries
    header: HistogramSeries
    first_frame: HistogramSeries
    step: HistogramSeries
    batch_size: HistogramSeries
    encode: HistogramSeries
    response_bytes: Counter
    raw_bytes: Counter


class Metrics:
    """Counters and histograms of requests, in a separate Prometheus registry.

    This class is not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._series: dict[_Key, _Series] = {}
        self._requests = self._counter(
            "codec_requests",
            "Requests that have ended. The label outcome is ok or an error code.",
            "protocol operation modality pipeline coding outcome",
        )
        self._duration = self._histogram(
            "codec_request_duration_seconds",
            "Time from the start to the end of a request with the outcome ok.",
            "protocol operation modality",
        )
        self._queue_wait = self._histogram(
            "codec_queue_wait_seconds",
            "Time from admission until the model starts to work for a request.",
            "operation modality",
        )
        self._header = self._histogram(
            "codec_time_to_header_seconds",
            "Time from the start of a request to the header of its latent stream.",
            "operation modality",
        )
        self._first_frame = self._histogram(
            "codec_time_to_first_frame_seconds",
            "Time from the start of a request to the first frame of its latent stream.",
            "operation modality",
        )
        self._step = self._histogram(
            "codec_sampling_step_seconds",
            "Mean time of a sampling step in one request, including the encoding of the prompt.",
            "modality",
            _SHORT_SECONDS,
        )
        self._batch_size = self._histogram(
            "codec_batch_size",
            "Size of the batch in which the last generation of a request was sampled.",
            "modality",
            _BATCH_SIZES,
        )
        self._encode = self._histogram(
            "codec_encode_seconds",
            "Time to encode all latent frames of a generation with a pipeline.",
            "modality pipeline",
            _SHORT_SECONDS,
        )
        self._response_bytes = self._counter(
            "codec_response_bytes",
            "Bytes of response bodies and messages, without HTTP headers.",
            "protocol operation pipeline coding",
        )
        self._raw_bytes = self._counter(
            "codec_raw_latent_bytes",
            "Size in bytes that the latents in responses would have as fp16 without compression.",
            "protocol operation pipeline coding",
        )

    def record(self, record: RequestRecord) -> None:
        """Add the ended request that `record` describes to the metrics.

        Requests that do not run a model are not counted.
        """
        operation = record.operation
        if operation is None or record.ended_at is None:
            return
        key = (record.protocol, operation, record.modality, record.pipeline, record.coding, record.outcome)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self._new_series(record, operation)
        start = record.started_at
        series.requests.inc()
        if record.bytes_out:
            series.response_bytes.inc(record.bytes_out)
        if record.frames:
            series.raw_bytes.inc(record.raw_bytes)
        if (queue_s := record.queue_s) is not None:
            series.queue_wait.observe(queue_s)
        if record.header_at is not None:
            series.header.observe(record.header_at - start)
        if record.first_frame_at is not None:
            series.first_frame.observe(record.first_frame_at - start)
        if record.steps and record.sampling_s:
            series.step.observe(record.sampling_s / record.steps)
        if record.batch_size:
            series.batch_size.observe(record.batch_size)
        if record.encode_s:
            series.encode.observe(record.encode_s)
        if record.outcome == OK:
            series.duration.observe(record.ended_at - start)

    def _new_series(self, record: RequestRecord, operation: str) -> _Series:
        modality, pipeline = record.modality or UNKNOWN, record.pipeline or UNKNOWN
        coding = record.coding or UNKNOWN
        sent = (record.protocol, operation, pipeline, coding)
        return _Series(
            requests=self._requests.labels(record.protocol, operation, modality, pipeline, coding, record.outcome),
            duration=self._duration.labels(record.protocol, operation, modality),
            queue_wait=self._queue_wait.labels(operation, modality),
            header=self._header.labels(operation, modality),
            first_frame=self._first_frame.labels(operation, modality),
            step=self._step.labels(modality),
            batch_size=self._batch_size.labels(modality),
            encode=self._encode.labels(modality, pipeline),
            response_bytes=self._response_bytes.labels(*sent),
            raw_bytes=self._raw_bytes.labels(*sent),
        )

    def _counter(self, name: str, text: str, labels: str) -> Counter:
        return Counter(name, text, labels.split(), registry=self.registry)

    def _histogram(self, name: str, text: str, labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
        return Histogram(name, text, labels.split(), buckets, self.registry)

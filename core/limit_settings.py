"""Settings that limit which requests a server accepts, and how long the server works on a request."""

from pydantic_settings import BaseSettings

from core.request_memory import DEFAULT_LIMIT_BYTES
from core.setting_field import either_variable, setting

DEFAULT_MAX_CONNECTIONS = 1024
DEFAULT_MAX_CONNECTIONS_PER_IP = 256


class LimitSettings(BaseSettings):
    """Limits on jobs, memory, connections and durations.

    The class core.settings.Settings contains the fields of this class.
    """

    max_jobs: int = setting(
        "Limits",
        32,
        "Maximum number of active generations. A generation is active while it is queued, running or being "
        "sent to its client.",
        ge=1,
    )
    max_jobs_per_client: int | None = setting(
        "Limits",
        None,
        "Maximum number of active generations of one client. Clients are distinguished by API key, or by IP "
        "address if no key is required. Default: 7/8 of --max-jobs, or all of --max-jobs if --max-jobs is less "
        "than 4.",
        ge=1,
    )
    max_cost: int = setting(
        "Limits", 10_000_000_000, "Maximum total cost of active generations, in pixels x latent frames x steps.", ge=1
    )
    max_request_mib: int = setting(
        "Limits",
        DEFAULT_LIMIT_BYTES // 2**20,
        "Maximum memory in MiB for request bodies that are being received and for input images of active generations.",
        ge=32,
    )
    max_memory_mib: int | None = setting(
        "Limits",
        None,
        "Maximum device memory in MiB for active generations, not including the models. The server predicts the "
        "memory of each generation from measurements that the server makes at startup. Default: 80 % of the "
        "memory that is free after the models are loaded.",
        ge=1,
    )
    max_connections: int = setting(
        "Limits",
        DEFAULT_MAX_CONNECTIONS,
        "Maximum number of HTTP connections. The maximum is lower if the limit on open files of the process "
        "(ulimit -n) is too low. If the maximum is reached, a new connection replaces the connection that has been "
        "idle longest.",
        ge=1,
    )
    max_connections_per_ip: int = setting(
        "Limits",
        DEFAULT_MAX_CONNECTIONS_PER_IP,
        "Maximum number of HTTP connections from one IP address. Behind a reverse proxy, use the value of "
        "--max-connections.",
        ge=1,
    )
    request_timeout_s: float = setting(
        "Limits",
        600,
        "Maximum time in seconds for one request, including its time in the queue. A request that takes longer is "
        "cancelled.",
        gt=0,
    )
    step_timeout_s: float = setting(
        "Limits",
        600,
        "Maximum time in seconds for one sampling step or for decoding one frame. If a step or a frame takes "
        "longer, the server rejects requests until the device works again. During this time, GET /livez returns "
        "503, so that an orchestrator can restart the process.",
        gt=0,
    )
    drain_timeout_s: float = setting(
        "Limits",
        30,
        "Maximum time in seconds that a stopping server waits for its active generations to finish. After this "
        "time, the server cancels the remaining generations.",
        ge=0,
        validation_alias=either_variable("DRAIN_TIMEOUT_S", "SHUTDOWN_GRACE_S"),
    )

    @property
    def max_request_bytes(self) -> int:
        """The value of `max_request_mib`, converted to bytes."""
        return self.max_request_mib * 2**20

    @property
    def max_memory_bytes(self) -> int | None:
        """The value of `max_memory_mib`, converted to bytes, or None if `max_memory_mib` is not set."""
        return None if self.max_memory_mib is None else self.max_memory_mib * 2**20

/**
 * The errors of the protocol, with the names and codes of the Python package `codec_wire.errors`.
 *
 * Every error has the name of its class, so that it can be recognized after it was passed between realms or workers.
 */

/** Base class of all errors of this package and of the server. */
export class CodecError extends Error {
  /** Identifies the class on the wire. */
  static readonly code: string = "internal";
  /** Field of the request that caused the error, by its wire name; null if there is none. */
  readonly field: string | null = null;

  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }

  /** Identifies the class on the wire. */
  get code(): string {
    return (this.constructor as typeof CodecError).code;
  }
}

/** Base class of errors caused by one field of the request. The message begins with the name of the field. */
export class FieldError extends CodecError {
  constructor(
    override readonly field: string,
    message: string,
  ) {
    super(`${field}: ${message}`);
  }
}

/** A field of the request has a value that is not allowed. */
export class InvalidRequest extends FieldError {
  static override readonly code = "invalid_request";
}

/** The model, latent-space map or latent-to-RGB matrix does not exist on this server. */
export class NotFound extends FieldError {
  static override readonly code = "not_found";
}

/** The credentials of the request are missing or not valid. */
export class Unauthenticated extends CodecError {
  static override readonly code = "unauthenticated";
}

/** The credentials, or the origin of the web page, do not permit the request. */
export class Forbidden extends CodecError {
  static override readonly code = "forbidden";
}

/** The latent-space map that the client pins is not the server's map. */
export class MapMismatch extends CodecError {
  static override readonly code = "map_mismatch";
}

/** The request exceeds a limit of the server, however busy the server is. */
export class TooLarge extends CodecError {
  static override readonly code = "too_large";
}

/** The body of the request has a content coding. */
export class UnsupportedCoding extends CodecError {
  static override readonly code = "unsupported_coding";
}

/** The Content-Type of the request is not that of the endpoint. */
export class UnsupportedMediaType extends CodecError {
  static override readonly code = "unsupported_media_type";
}

/** The body of the request did not arrive in time. */
export class RequestTimeout extends CodecError {
  static override readonly code = "request_timeout";
}

/** The client accepts none of the available content codings. */
export class NotAcceptable extends CodecError {
  static override readonly code = "not_acceptable";
}

/** The model does not generate the requested modality. */
export class UnsupportedModality extends CodecError {
  static override readonly code = "unsupported_modality";
  override readonly field = "modality";

  constructor(
    message: string,
    /** The modalities that the model generates. */
    readonly supported: readonly string[],
  ) {
    super(message);
  }
}

/** Base class of temporary errors. */
export class RetryableError extends CodecError {
  constructor(
    message: string,
    /** The server's estimate of the time to wait, in seconds. */
    readonly retryAfterS: number,
  ) {
    super(message);
  }
}

/** The server has too many active requests to accept another one. */
export class Overloaded extends RetryableError {
  static override readonly code = "overloaded";
}

/** The server is loading a model or shutting down. */
export class NotReady extends RetryableError {
  static override readonly code = "not_ready";
}

/** The device ran out of memory for this request. */
export class OutOfMemory extends CodecError {
  static override readonly code = "out_of_memory";
}

/** The server cannot write a temporary file. */
export class OutOfStorage extends CodecError {
  static override readonly code = "out_of_storage";
}

/** The request did not finish in time. */
export class DeadlineExceeded extends CodecError {
  static override readonly code = "deadline_exceeded";
}

/** The request was cancelled. */
export class Cancelled extends CodecError {
  static override readonly code = "cancelled";
}

/** The pipeline produced NaN, Inf or values that cannot be encoded. */
export class InvalidLatents extends CodecError {
  static override readonly code = "invalid_latents";
}

/** A latent-space map, or a file that belongs to it, is not valid. */
export class InvalidMap extends CodecError {
  static override readonly code = "invalid_map";
}

/** No server responded, or the connection was lost before the response. */
export class ServerUnreachable extends CodecError {
  static override readonly code = "server_unreachable";
}

/** The response is not that of a Codec server. */
export class UnexpectedAnswer extends CodecError {
  static override readonly code = "unexpected_answer";
}

/** A received latent stream is not valid; the subclasses give the reason. */
export class StreamError extends CodecError {
  static override readonly code: string = "stream_error";

  constructor(
    /** The message without the position. */
    readonly reason: string,
    /** Position of the faulty message in the uncompressed stream, in bytes; null if it is unknown. */
    readonly offset: number | null = null,
  ) {
    super(offset === null ? reason : `at byte ${offset}: ${reason}`);
  }

  /** Return the same error with the position of the faulty message. */
  at(offset: number): StreamError {
    return new (this.constructor as typeof StreamError)(this.reason, offset);
  }
}

/** A message cannot be parsed, or one of its fields has an invalid type or value. */
export class MalformedMessage extends StreamError {
  static override readonly code = "malformed_message";
}

/** A message, or the whole stream, is larger than its header or the reader's limit allows. */
export class MessageTooLarge extends StreamError {
  static override readonly code = "message_too_large";
}

/** Frames are missing, repeated or out of order, or data follows the last frame. */
export class SequenceError extends StreamError {
  static override readonly code = "sequence_error";
}

/** The stream ended before its last frame. */
export class TruncatedStream extends StreamError {
  static override readonly code = "truncated_stream";
}

/** The sender reported an error in the last frame. */
export class StreamFailed extends StreamError {
  static override readonly code = "stream_failed";
}

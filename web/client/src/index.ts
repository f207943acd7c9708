/** Client of Codec latent streams for browsers and Node.js. */

export { type ConnectionOptions, send } from "./connection.js";
export type { DecodedLatents } from "./decoder.js";
export { type DictionarySelection, fetchDictionary, type PublishedDictionary } from "./dictionaries.js";
export * from "./errors.js";
export { generate, type GenerateOptions } from "./generate.js";
export { generateGrpcWeb } from "./grpc-web.js";
export { LatentStream, type StreamOptions } from "./latent-stream.js";
export { type LatentRgb, latentToRgb, parseLatentRgb, type RgbaImage } from "./latent-rgb.js";
export type { DictionaryEntry, LatentMap, MapPipeline } from "./map-document.js";
export { fetchLatentRgb, fetchMap, type MapSelection, type PublishedMap } from "./maps.js";
export { type DecoderSelection, fetchDecoder, type PublishedDecoder } from "./published-decoder.js";
export { errorOf } from "./server-errors.js";
export type { FinishReason, LatentDtype, LatentStreamHeader } from "./messages.js";
export { frameSize, type Pipeline, PIPELINES, type ScaleOrigin } from "./pipelines.js";
export type { WireFormat } from "./reader.js";
export type { EventListeners, Preview, Progress } from "./progress.js";
export type { GenerationRequest, ImageRequest, Modality, RequestLora, VideoRequest } from "./request.js";
export { type DecoderOptions, LatentStreamDecoder, MAX_BYTES } from "./stream-decoder.js";

/** The generation request. Fields have their names on the wire, which errors of the server also use. */

export type Modality = "image-latents" | "video-latents";

/** LoRA weights by name, and the factor by which they are multiplied (default: 1). */
export type RequestLora = Readonly<{ name: string; scale?: number }>;
/** Parameters that only some model families have. The server lists those that a model accepts in /v1/models. */
export interface ExtraParameters {
  /** Scale of classifier-free guidance with a negative prompt, which a value above 1 requires. */
  true_cfg_scale?: number;
  /** How much the guided prediction is rescaled to the standard deviation of the unguided one, from 0 to 1. */
  guidance_rescale?: number;
  /** Maximum number of tokens of a prompt that the text encoder reads. */
  max_sequence_length?: number;
  /** Number of skipped layers at the end of the CLIP text encoders. */
  clip_skip?: number;
}

/** Fields of requests for images and videos. Default values are the server's. */
interface CommonFields {
  /** Text that describes the image or video. */
  prompt: string;
  /** Text that describes what to avoid. */
  negative_prompt?: string;
  /** Syntax of the prompts. The server lists the syntaxes of each model in /v1/models. */
  prompt_syntax?: "plain" | "compel";
  /** Name or alias of a served model. */
  model?: string;
  /** Id of the latent space that the client can decode. Must be that of the model. */
  latent_space?: string;
  /** Pipeline that encodes the latents, for example int8. */
  pipeline?: string;
  /** Size in pixels. */
  size?: `${number}x${number}`;
  /** Number of denoising steps. */
  steps?: number;
  /** Seed of the noise; -1 selects a random one. Seeds over 2^53 need a bigint. */
  seed?: number | bigint;
  guidance_scale?: number;
  /** Name of a scheduler that the server lists for the model in /v1/models. */
  scheduler?: string;
  /** LoRA weights that are added to the model for this request, by the names that the server lists in /v1/models. */
  loras?: readonly RequestLora[];
  /** Input image: the bytes of a PNG, JPEG or WebP file. */
  image?: Uint8Array;
  /** Conditioning image of a ControlNet: the bytes of a PNG, JPEG or WebP file. */
  control_image?: Uint8Array;
  /** Inpainting mask of the size of `image`: the bytes of a PNG, JPEG or WebP file. White pixels are repainted. */
  mask?: Uint8Array;
  /** Latents to start from instead of an input image: the body of a latent stream with one image. */
  latents?: Uint8Array;
  /** How much to change the input image or latents, from 0 to 1. */
  strength?: number;
  /** Number of steps from one preview to the next. Previews are passed to GenerateOptions.onPreview. */
  preview_every?: number;
  extra?: ExtraParameters;
}

export interface ImageRequest extends CommonFields {
  modality?: "image-latents";
}

export interface VideoRequest extends CommonFields {
  modality: "video-latents";
  fps?: number;
  /** Number of video frames. */
  frames?: number;
  /** Duration of the video, instead of `frames`. */
  duration_seconds?: number;
  /** Number of frames from one keyframe to the next. */
  keyframe_interval?: number;
}

export type GenerationRequest = ImageRequest | VideoRequest;

/** Path of the endpoint for each modality. */
export const GENERATION_PATHS: Readonly<Record<Modality, string>> = {
  "image-latents": "/v1/images/generations",
  "video-latents": "/v1/videos/generations",
};

/** Return the JSON body of a request. Files are base64, and integers that a number cannot represent are strings. */
export function requestBody(request: GenerationRequest, wireFormat: string): string {
  const body = { modality: "image-latents", ...request, stream_format: wireFormat };
  return JSON.stringify(body, (_, value: unknown) => {
    if (typeof value === "bigint") return value.toString();
    return value instanceof Uint8Array ? toBase64(value) : value;
  });
}

function toBase64(data: Uint8Array): string {
  const parts: string[] = [];
  // The number of arguments of a call is limited.
  for (let start = 0; start < data.length; start += 0x8000) {
    parts.push(String.fromCharCode(...data.subarray(start, start + 0x8000)));
  }
  return btoa(parts.join(""));
}

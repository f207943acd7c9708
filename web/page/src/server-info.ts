/** What the server reports about itself and its models. */

import { urlOf } from "./urls.js";

/** A decoder of a latent space that the server publishes. */
interface PublishedDecoder {
  readonly family: string;
  readonly size_bytes: number;
}

/** A served model. Its keys are those of /codec/info. */
export interface ModelInfo {
  readonly model: string;
  readonly modality_supported: readonly string[];
  readonly latent_space_id: string;
  readonly latent_map_sha256: string;
  readonly latent_rgb_url: string | null;
  readonly pipelines: readonly string[];
  readonly default_size: string;
  readonly size_multiple: number;
  readonly max_side: number;
  readonly max_frames: number;
  readonly frame_multiple: number;
  readonly forms: readonly string[];
  readonly decodes: boolean;
  readonly decoders?: readonly PublishedDecoder[];
  readonly pixel_checks: readonly { readonly vae: string }[];
}

export interface ServerInfo {
  readonly state: string;
  readonly server_version: string;
  readonly device: string | null;
  readonly max_steps?: number | null;
  readonly image_pipelines: readonly string[];
  readonly video_pipelines: readonly string[];
  readonly models?: readonly ModelInfo[] | null;
}

const INTERVAL_MS = 1000;

/** Return the description of the server; null if it does not respond or `signal` is aborted. */
export async function fetchInfo(signal?: AbortSignal): Promise<ServerInfo | null> {
  try {
    const response = await fetch(urlOf("codec/info"), { signal: signal ?? null });
    return response.ok ? ((await response.json()) as ServerInfo) : null;
  } catch {
    return null;
  }
}

/** Wait until the server has loaded its models. `report` is called with the state while it has not. */
export async function waitUntilLoaded(
  report: (state: string) => void,
): Promise<ServerInfo & { models: readonly ModelInfo[] }> {
  for (;;) {
    const info = await fetchInfo();
    if (info?.models && info.models.length > 0) return { ...info, models: info.models };
    report(info?.state ?? "not reachable");
    await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
  }
}

/** A first-in, first-out queue of bytes. Chunks are copied only when bytes are taken. */
export class ByteQueue {
  #chunks: Uint8Array[] = [];
  #first = 0; // index of the chunk that contains the next byte
  #position = 0; // position of the next byte in that chunk
  #length = 0;

  /** Number of bytes in the queue. */
  get length(): number {
    return this.#length;
  }

  /** Append `chunk`, which must not change until it was taken. */
  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** Remove `count` bytes and return a copy of them. There must be as many. */
  take(count: number): Uint8Array<ArrayBuffer> {
    const taken = new Uint8Array(count);
    for (let filled = 0; filled < count; ) {
      const chunk = this.#chunks[this.#first]!;
      const part = chunk.subarray(this.#position, this.#position + count - filled);
      taken.set(part, filled);
      filled += part.length;
      this.#advance(chunk, part.length);
    }
    return taken;
  }

  /** Return the byte at `index` without removing it. There must be more than `index` bytes. */
  peek(index: number): number {
    let position = this.#position + index;
    for (let number = this.#first; ; number++) {
      const chunk = this.#chunks[number]!;
      if (position < chunk.length) return chunk[position]!;
      position -= chunk.length;
    }
  }

  #advance(chunk: Uint8Array, count: number): void {
    this.#length -= count;
    this.#position += count;
    if (this.#position < chunk.length) return;
    this.#first += 1;
    this.#position = 0;
    // Removing the chunks at the front one by one would take quadratic time.
    if (this.#first === this.#chunks.length) {
      this.#chunks = [];
      this.#first = 0;
    } else if (this.#first >= 1024) {
      this.#chunks.splice(0, this.#first);
      this.#first = 0;
    }
  }
}

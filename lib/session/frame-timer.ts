/** Finds a peer that leaves a frame unfinished while it goes on sending a little (R-FLOW-9). */

const MAX_FRAME_MS = 30_000;

/** Longer gaps between bytes do not count: a paused VM is not slow. */
const MAX_GAP_MS = 15_000;

export class FrameTimer {
  #atMs: number;
  #frame = -1;
  #spentMs = 0;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** Before arriving bytes are read: whether the frame with this number, which is unfinished, has taken too long. */
  isExceeded(frame: number, isMidFrame: boolean, nowMs: number): boolean {
    const gapMs = nowMs - this.#atMs;
    this.#atMs = nowMs;
    if (!isMidFrame || frame !== this.#frame) this.#spentMs = 0;
    else if (gapMs < MAX_GAP_MS) this.#spentMs += gapMs;
    this.#frame = frame;
    return this.#spentMs > MAX_FRAME_MS;
  }
}

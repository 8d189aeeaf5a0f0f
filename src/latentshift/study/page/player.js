// Two clips side by side, looping in step: both start together, and start again when the longer one has ended.

const LONGEST_LOAD = 5000; // ms until clips are started that have not said they are ready: some phones load no sooner
const MOST_APART = 0.08; // seconds

class VideoClip {
  constructor(url, label) {
    this.element = Object.assign(document.createElement("video"), {
      muted: true,
      playsInline: true,
      preload: "auto",
      disablePictureInPicture: true,
      disableRemotePlayback: true,
    });
    this.element.setAttribute("aria-label", label);
    this.loaded = new Promise((resolve, reject) => {
      this.element.addEventListener("canplaythrough", resolve, { once: true });
      this.element.addEventListener("error", () => reject(new Error(url)), { once: true });
    });
    this.element.src = url;
  }

  get shape() {
    return this.element.videoWidth / this.element.videoHeight;
  }

  get playing() {
    return !this.element.paused && !this.element.ended;
  }

  start() {
    this.element.currentTime = 0;
    return this.element.play();
  }

  resume() {
    return this.element.ended ? Promise.resolve() : this.element.play();
  }

  pause() {
    this.element.pause();
  }

  drop() {
    this.element.removeAttribute("src");
    this.element.load();
  }
}

/** A .gif, .webp or .png, which loops by itself; a new address starts it again. */
class ImageClip {
  constructor(url, label) {
    this.element = Object.assign(document.createElement("img"), { alt: label });
    this.loaded = this.#load(url);
  }

  async #load(url) {
    const response = await fetch(url);
    if (!response.ok) throw new Error(url);
    this.content = await response.blob();
    const probe = new Image();
    probe.src = URL.createObjectURL(this.content);
    await probe.decode();
    this.shape = probe.naturalWidth / probe.naturalHeight;
    URL.revokeObjectURL(probe.src);
  }

  get playing() {
    return false;
  }

  async start() {
    const before = this.element.src;
    this.element.src = URL.createObjectURL(this.content);
    await this.element.decode().catch(() => {});
    if (before) URL.revokeObjectURL(before);
  }

  async resume() {}

  pause() {}

  drop() {
    if (this.element.src) URL.revokeObjectURL(this.element.src);
  }
}

/** The player of one pair. `onShape(width / height)`, `onWatched()` when both have played once, `onBlocked()`. */
export class Player {
  #clips = [];
  #events;
  #turn = 0; // of the clips that are shown; what was waited for and heard of earlier ones no longer counts
  paused = false;

  constructor(events) {
    this.#events = events;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && !this.paused && this.#clips.length) this.start();
    });
  }

  /** Whether pausing does anything. */
  get canPause() {
    return this.#clips.some((clip) => clip instanceof VideoClip);
  }

  /** Load a clip into each box and start both; throws the error of the first that can't be loaded or played. */
  async show(boxes, sides, labels) {
    this.clear();
    const turn = this.#turn;
    this.#clips = sides.map((side, number) => new (side.kind === "video" ? VideoClip : ImageClip)(side.url, labels[number]));
    const clips = this.#clips;
    boxes.forEach((box, number) => box.replaceChildren(clips[number].element));
    const loaded = Promise.all(clips.map((clip) => clip.loaded));
    const late = new Promise((resolve) => setTimeout(resolve, LONGEST_LOAD));
    await (clips.every((clip) => clip instanceof VideoClip) ? Promise.race([loaded, late]) : loaded);
    if (turn !== this.#turn) return;
    loaded.then(
      () => turn === this.#turn && this.#events.onShape(Math.max(...clips.map((clip) => clip.shape || 0)) || 1),
      () => {},
    );
    for (const clip of clips) {
      clip.element.addEventListener("ended", () => turn === this.#turn && this.#onEnded());
      clip.element.addEventListener("timeupdate", () => turn === this.#turn && this.#keepInStep());
    }
    this.paused = false;
    await this.start();
    if (!clips.some((clip) => clip instanceof VideoClip)) this.#events.onWatched();
    await loaded;
  }

  /** Play both from the beginning. */
  async start() {
    const clips = this.#clips;
    try {
      this.paused = false;
      await Promise.all(clips.map((clip) => clip.start()));
    } catch (error) {
      // A browser that saves power plays nothing unasked; and a clip that was taken away is no error.
      if (error.name === "NotAllowedError" && clips === this.#clips) {
        this.pause();
        this.#events.onBlocked();
      }
    }
  }

  /** Stop where they are. */
  pause() {
    this.paused = true;
    for (const clip of this.#clips) clip.pause();
  }

  /** Go on from there. */
  resume() {
    this.paused = false;
    if (this.#clips.every((clip) => !(clip instanceof VideoClip) || clip.element.ended)) return this.start();
    return Promise.all(this.#clips.map((clip) => clip.resume())).catch(() => {});
  }

  /** Take the clips away. */
  clear() {
    this.#turn++;
    for (const clip of this.#clips) clip.drop();
    this.#clips = [];
  }

  #onEnded() {
    const videos = this.#clips.filter((clip) => clip instanceof VideoClip);
    if (!videos.every((clip) => clip.element.ended)) return;
    this.#events.onWatched();
    if (!this.paused) for (const clip of videos) clip.start().catch(() => {});
  }

  #keepInStep() {
    const [first, second] = this.#clips.map((clip) => clip.element);
    if (!this.#clips.every((clip) => clip.playing) || second.seeking) return;
    if (Math.abs(first.currentTime - second.currentTime) > MOST_APART && first.currentTime < second.duration) {
      second.currentTime = first.currentTime;
    }
  }
}

/** Anchors of headings as GitHub and editors make them, so that links to sections work everywhere. */
import { Slugger } from 'typedoc';

/** Gives each heading of a page its anchor. */
export class HeadingSlugger extends Slugger {
  readonly #anchors = new Set<string>();

  constructor() {
    super({ lowercase: true });
  }

  override slug(text: string): string {
    const plain = text
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
      .replaceAll(' ', '-');
    let anchor = plain;
    for (let count = 1; this.#anchors.has(anchor); count++) anchor = `${plain}-${count}`;
    this.#anchors.add(anchor);
    return anchor;
  }

  override hasAnchor(anchor: string): boolean {
    return this.#anchors.has(anchor);
  }

  override getSimilarAnchors(anchor: string): string[] {
    const words = anchor.split('-');
    const likeness = (other: string) => other.split('-').filter((word) => words.includes(word)).length;
    return Array.from(this.#anchors)
      .sort((a, b) => likeness(b) - likeness(a))
      .slice(0, 3);
  }
}

/** Which scenes a document has. */
import type { ParsedDocument } from './parse-document.js';

/** The names in its markers, each once, in the order in which they come. */
export function scenesOf({ blocks }: ParsedDocument): string[] {
  return [...new Set(blocks.flatMap(({ marker }) => (marker !== null && 'scene' in marker ? [marker.scene] : [])))];
}

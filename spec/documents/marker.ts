/** Markers: comments above a block of a document that define who runs it, and where. */

export type Place = 'host' | 'guest';

/** A parsed marker. */
export type Marker =
  | { readonly kind: 'run'; readonly scene: string; readonly place: Place; readonly stays: boolean }
  | { readonly kind: 'not-run'; readonly reason: string }
  /** Another spec runs it: a path from the project's folder. */
  | { readonly kind: 'run-elsewhere'; readonly spec: string }
  /** The block is the contents of a file; a relative path starts at the home folder of the scene. */
  | { readonly kind: 'file'; readonly path: string; readonly scene: string };

const COMMENT = /^<!--\s*(run|not run here|not run|file):\s*(.*?)\s*-->$/s;
const SCENE = '[a-z0-9]+(?:-[a-z0-9]+)*';
const RUN = new RegExp(`^(${SCENE})( in the guest)?( stays)?$`);
const ELSEWHERE = /^(spec\/\S+\.ts) runs it$/;
const FILE = new RegExp(`^(\\S+) in (${SCENE})$`);

/** The marker in a comment, or null for any other comment. Throws for a malformed marker. */
export function parseMarker(comment: string): Marker | null {
  const [, word, text = ''] = COMMENT.exec(comment.trim()) ?? [];
  if (word === undefined) return null;
  if (word === 'run') {
    const [, scene, guest, stays] = RUN.exec(text) ?? [];
    if (scene === undefined)
      throw new Error(`"${text}" is not "SCENE", "SCENE in the guest", or one of them and "stays"`);
    return { kind: 'run', scene, place: guest === undefined ? 'host' : 'guest', stays: stays !== undefined };
  }
  if (word === 'not run here') {
    const [, spec] = ELSEWHERE.exec(text) ?? [];
    if (spec === undefined) throw new Error(`"${text}" is not "spec/….ts runs it"`);
    return { kind: 'run-elsewhere', spec };
  }
  if (word === 'not run') {
    if (text === '') throw new Error('"not run" has no reason');
    return { kind: 'not-run', reason: text };
  }
  const [, path, scene] = FILE.exec(text) ?? [];
  if (path === undefined || scene === undefined) throw new Error(`"${text}" is not "PATH in SCENE"`);
  return { kind: 'file', path, scene };
}

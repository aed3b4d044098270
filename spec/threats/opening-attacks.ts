/** What a man in the middle does with the opening of a session, before anything is proved. */
import { type Edit, HelloEditor, helloOf, splitOpening } from './hello-editor.js';
import { type Attack, BOTH_WAYS, back, type Change, type Crossing, type Way } from './middle.js';

/** One attack, and the code with which it ends at least one side. */
export interface OpeningAttack {
  readonly what: string;
  /** Null: both sides receive their own bytes, and wait for a peer. */
  readonly code: string | null;
  readonly attack: Attack;
}

/** Edits the HELLOs of both ways, or of one. */
export function editing(edits: Edit | Partial<Record<Way, Edit>>): Attack {
  return () => {
    const editOf = (way: Way): Edit => (typeof edits === 'function' ? edits : (edits[way] ?? ((fields) => fields)));
    const editors = { 'to-host': new HelloEditor(editOf('to-host')), 'to-guest': new HelloEditor(editOf('to-guest')) };
    return (bytes, way) => editors[way].push(bytes);
  };
}

/** Another nonce of 32 digits, close to this one. */
export function nextTo(nonce: unknown): string {
  const text = String(nonce);
  return text.slice(0, -1) + (text.endsWith('7') ? '8' : '7');
}

/** Replaces both nonces by its own, and acknowledges to each side what that one sent. */
const swapNonces: Attack = (crossing) => {
  const real = new Map<unknown, unknown>();
  const swap: Edit = (fields) => {
    const nonce = nextTo(fields['nonce']);
    real.set(nonce, fields['nonce']);
    return { ...fields, nonce, ack: real.get(fields['ack']) ?? fields['ack'] };
  };
  return editing(swap)(crossing);
};

/** Sends each side what it wrote itself. */
const mirror: Attack = () => (bytes, way, crossing) => {
  crossing.inject(back(way), bytes);
  return Buffer.alloc(0);
};

/** The same with HELLOs of another process, which acknowledge what the side has just sent. */
const disguisedMirror: Attack = (crossing) => {
  const disguise: Edit = (fields) => ({
    ...fields,
    instance: nextTo(fields['instance']),
    // The lesser nonce: each side is to be TLS's client, and gets its own first record.
    nonce: '0'.repeat(8) + String(fields['nonce']).slice(8),
    ack: fields['nonce'],
  });
  const editors = { 'to-host': new HelloEditor(disguise), 'to-guest': new HelloEditor(disguise) };
  return (bytes, way) => {
    crossing.inject(back(way), editors[way].push(bytes));
    return Buffer.alloc(0);
  };
};

export const OPENING_ATTACKS: readonly OpeningAttack[] = [
  {
    what: 'makes the nonces of both HELLOs his own, and acknowledges for each side',
    code: 'auth-failed',
    attack: swapNonces,
  },
  {
    what: 'takes all protection out of both HELLOs',
    code: 'auth-failed',
    attack: editing((fields) => ({ ...fields, auth: null, tls: false })),
  },
  {
    what: 'lowers the version in both HELLOs to one that was broken',
    code: 'version-mismatch',
    attack: editing((fields) => ({ ...fields, version: { min: 0, max: 0 } })),
  },
  { what: 'sends each side back what it wrote', code: null, attack: mirror },
  {
    what: 'sends each side back what it wrote, as another process',
    code: 'auth-failed',
    attack: disguisedMirror,
  },
];

/** A recorded session, replayed to any side that connects. */
export interface Recording {
  readonly bytes: Readonly<Record<Way, Buffer>>;
}

export function recordingOf(crossing: Crossing): Recording {
  return { bytes: { 'to-host': crossing.all('to-host'), 'to-guest': crossing.all('to-guest') } };
}

/** Replays to each side what the other one once wrote, byte for byte. */
export function replaying({ bytes }: Recording): Attack {
  return (crossing) => {
    for (const way of BOTH_WAYS) crossing.inject(way, bytes[way]);
    return () => Buffer.alloc(0);
  };
}

/** The same, but the recorded HELLOs acknowledge what the side sends now, so that what followed them is read. */
export function replayingWithAnswers({ bytes }: Recording): Attack {
  return (crossing) => {
    const isPlayed: Partial<Record<Way, boolean>> = {};
    const play = (to: Way, nonce: unknown): void => {
      if (isPlayed[to] === true) return;
      isPlayed[to] = true;
      const { last, behind } = splitOpening(bytes[to]);
      crossing.inject(to, Buffer.concat([helloOf({ ...last, ack: nonce }), behind]));
    };
    const editorOf = (way: Way): HelloEditor =>
      new HelloEditor((fields) => {
        play(back(way), fields['nonce']);
        return null;
      });
    const editors = { 'to-host': editorOf('to-host'), 'to-guest': editorOf('to-guest') };
    const change: Change = (chunk, way) => {
      editors[way].push(chunk);
      return Buffer.alloc(0);
    };
    return change;
  };
}

/** The types of frames (docs/protocol.md, "Frames"). */

export const FRAME_TYPE = {
  HELLO: 0x01,
  AUTH: 0x02,
  SERVICES: 0x03,
  OPEN: 0x04,
  ACCEPT: 0x05,
  REFUSE: 0x06,
  DATA: 0x07,
  CREDIT: 0x08,
  FIN: 0x09,
  STOP: 0x0a,
  RESET: 0x0b,
  PING: 0x0c,
  PONG: 0x0d,
  GOAWAY: 0x0e,
} as const;

export type FrameType = (typeof FRAME_TYPE)[keyof typeof FRAME_TYPE];

const NAMES = new Map<number, string>(Object.entries(FRAME_TYPE).map(([name, type]) => [type, name]));

/** The name of a type, or its two hex digits where it has none. */
export function formatFrameType(type: number): string {
  return NAMES.get(type) ?? type.toString(16).toUpperCase().padStart(2, '0');
}

/** Types that a later version may add and this one skips (R-FRAME-5). */
export function isExtensionType(type: number): boolean {
  return type >= 0x80 && type <= 0xfe;
}

/** Which stream id a known frame must have: the session's (`zero`), a stream's (`stream`), or `either`. */
export function streamIdRule(type: number): 'zero' | 'stream' | 'either' {
  switch (type) {
    case FRAME_TYPE.CREDIT:
      return 'either';
    case FRAME_TYPE.OPEN:
    case FRAME_TYPE.ACCEPT:
    case FRAME_TYPE.REFUSE:
    case FRAME_TYPE.DATA:
    case FRAME_TYPE.FIN:
    case FRAME_TYPE.STOP:
    case FRAME_TYPE.RESET:
      return 'stream';
    default:
      return 'zero';
  }
}

/** Draws what one channel carries: a row for each service, from the program on the host to the one in the guest. */
import type { Direction } from '../../../lib/index.js';
import { drawSvg, escapeXml, type Scheme } from './svg.js';

/** The open streams of a service. */
export interface Carried {
  readonly service: string;
  readonly streams: number;
  readonly openedBy: Side;
  readonly host: ProgramEnd;
  readonly guest: ProgramEnd;
}

type Side = 'host' | 'guest';

/** A program that connects to its vproxy (outgoing), listens for it (incoming), or is started by it. */
interface ProgramEnd {
  readonly program: string;
  readonly direction?: Direction;
  readonly endpoint?: string;
}

/** In pixels. The guest's half is the mirror image of the host's. */
const WIDTH = 520;
const MACHINE = { left: 8, right: 188, top: 8 } as const;
/** Between programs and vproxy. */
const ARROW = { left: 24, right: 160 } as const;
const CHANNEL_TOP = 46;
const ROW = { first: 78, height: 58, streamGap: 7 } as const;
const DOT_RADIUS = 5;

/** The drawing, as text of an SVG file. */
export function drawDiagram(rows: readonly Carried[]): string {
  const height = rows.length * ROW.height;
  const below = CHANNEL_TOP + height;
  const uses = rows.map(
    ({ service, streams, openedBy, host, guest }) =>
      `${service}: ${host.program} on the host, ${guest.program} in the guest; streams opened by the ${openedBy}: ${streams}.`,
  );
  const title = 'What one channel carries between programs on a host and in a guest';
  return drawSvg({ title, description: uses.join(' '), width: WIDTH, height: below + 88 }, styleOf, [
    ...drawHalf(rows, 'host', height),
    ...drawHalf(rows, 'guest', height),
    `<rect class="channel" x="${MACHINE.right}" y="${CHANNEL_TOP}" width="${WIDTH - 2 * MACHINE.right}" height="${height}"/>`,
    drawText('one channel', WIDTH / 2, 32, 'middle', 'bold'),
    drawText('virtio-serial port', WIDTH / 2, below + 18, 'middle', 'dim'),
    ...rows.map((row, at) => drawStreams(row, rowY(at))),
    drawText('→ connects to ○, which listens; data flows both ways.', 16, below + 54, 'start', 'dim'),
    drawText('Each arrow inside the channel is one stream.', 16, below + 74, 'start', 'dim'),
  ]);
}

function styleOf({ background, paper, frame, text, terminal }: Scheme): string {
  return [
    `.machine, circle { fill: ${paper} }\n.machine { stroke: ${frame} }\n.channel { fill: ${frame}; fill-opacity: 0.45 }`,
    `.bar { fill: ${text} }\n.vproxy { fill: ${background} }\n.host { stroke: ${terminal[4]} }\n.guest { stroke: ${terminal[3]} }`,
    'path, circle { stroke-width: 2 }\npath { fill: none }\ntext:not(.address) { font-family: system-ui, sans-serif; font-size: 15px }',
  ].join('\n');
}

/** Draws a machine, its vproxy, and the programs that use it. */
function drawHalf(rows: readonly Carried[], side: Side, height: number): string[] {
  const isHost = side === 'host';
  const mirror = (x: number): number => (isHost ? x : WIDTH - x);
  const [outside, inside] = isHost ? ['start', 'end'] : ['end', 'start'];
  const shapes = rows.map(({ openedBy, [side]: { direction } }, at) => {
    const [from, to] = direction === 'outgoing' ? [ARROW.left, ARROW.right] : [ARROW.right, ARROW.left];
    const dot = `<circle class="${openedBy}" cx="${to}" cy="${rowY(at)}" r="${DOT_RADIUS}"/>`;
    return drawArrow(from, to, rowY(at), openedBy) + (direction === undefined ? '' : dot);
  });
  return [
    `<g${isHost ? '' : ` transform="translate(${WIDTH}) scale(-1 1)"`}>`,
    `<rect class="machine" x="${MACHINE.left}" y="${MACHINE.top}" width="${MACHINE.right - MACHINE.left}" height="${height + 66}" rx="8"/>`,
    `<rect class="bar" x="${ARROW.right}" y="${CHANNEL_TOP}" width="${MACHINE.right - ARROW.right}" height="${height}"/>`,
    ...shapes,
    '</g>',
    drawText(isHost ? 'host' : 'guest, no network', mirror(ARROW.left), 32, outside, 'bold'),
    `<text class="bold vproxy" text-anchor="middle" transform="translate(${mirror(174)} ${CHANNEL_TOP + height / 2}) rotate(${isHost ? -90 : 90})" dy="5">vproxy</text>`,
    ...rows.flatMap(({ [side]: { program, endpoint = '', direction } }, at) => {
      const [x, anchor] = direction === 'outgoing' ? [ARROW.right - 8, inside] : [ARROW.left - 4, outside];
      return [
        drawText(program, mirror(ARROW.left), rowY(at) - 10, outside),
        drawText(endpoint, mirror(x), rowY(at) + 20, anchor, 'dim address'),
      ];
    }),
  ];
}

function drawStreams({ service, streams, openedBy }: Carried, y: number): string {
  const from = openedBy === 'host' ? MACHINE.right + 8 : WIDTH - MACHINE.right - 8;
  const top = y - ((streams - 1) / 2) * ROW.streamGap;
  const arrows = Array.from({ length: streams }, (_, at) =>
    drawArrow(from, WIDTH - from, top + at * ROW.streamGap, openedBy),
  );
  return arrows.join('') + drawText(service, WIDTH / 2, top - 7, 'middle');
}

/** Draws an arrow that ends where the dot of a listener begins. */
function drawArrow(from: number, to: number, y: number, openedBy: Side): string {
  const sign = Math.sign(to - from);
  return `<path class="${openedBy}" d="M${from} ${y}H${to - sign * DOT_RADIUS}m${-sign * 7} -4l${sign * 7} 4l${-sign * 7} 4"/>`;
}

function drawText(text: string, x: number, y: number, anchor: string | undefined, style = ''): string {
  return `<text class="${style}" x="${x}" y="${y}" text-anchor="${anchor}">${escapeXml(text)}</text>`;
}

const rowY = (at: number): number => ROW.first + at * ROW.height;

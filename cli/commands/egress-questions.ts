/** `vproxy egress answer` and `watch`: destinations that no entry names, and that wait for an answer. */
import { setTimeout as delay } from 'node:timers/promises';
import type { ControlClient } from '../../lib/control/client/client.js';
import { badArgument } from '../../lib/errors.js';
import { MAX_FOR_S } from '../../lib/forward/egress/rules.js';
import type { EgressQuestion } from '../../lib/status/types.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { formatDuration } from '../../lib/util/units.js';
import { CHANNEL_FILTER, CHANNEL_OPTION, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf, splitLabel } from '../command/labels.js';
import { obeysEscapes } from '../ui/color.js';
import { showLive } from '../ui/live.js';
import { print, printAnswer } from '../ui/print.js';
import { formatTable } from '../ui/table.js';
import { describeChanges } from './egress-change.js';
import { NO_QUESTION, QUESTION_COLUMNS } from './question-columns.js';

const read = async (control: ControlClient, channel: string | undefined, signal?: AbortSignal) =>
  (await control.egressQuestions(signal)).filter((one) => channel === undefined || one.channel === channel);

const FOR = 'How long, from 1s to 720h, in seconds or as in 1h30m';

export const answer: Command = {
  usage: 'egress answer [CHANNEL/]ID allow|deny [--for TIME] [--channel LABEL] [--json]',
  about:
    'Answers a question of vproxy egress asked: its destination is allowed or denied, for a time or until vproxy egress reset.',
  examples: [
    ['vproxy egress answer 1f0c92ab allow --for 1h', 'For an hour'],
    ['vproxy egress answer vm1/1f0c92ab deny', 'Until vproxy egress reset'],
  ],
  options: { for: { value: 'TIME', describe: `${FOR} [default: until reset]` }, ...CHANNEL_OPTION, ...JSON_OPTION },
  operands: ['ID', 'allow|deny'],
  async run(args) {
    const [name = '', verdict = ''] = args.operands;
    const { label, rest: id } = splitLabel(name);
    if (verdict !== 'allow' && verdict !== 'deny')
      throw badArgument(`"${escapeText(verdict, 40)}" is not an answer; expected allow or deny`);
    const request = { id, isAllowed: verdict === 'allow', forS: args.seconds('for', 1, MAX_FOR_S) };
    const control = await openControl(args);
    const status = await control.answerEgress({ ...request, channel: channelOf(args, label) });
    printAnswer(args, status, () => describeChanges(status));
  },
};

const HELP = [
  'a  allow it for a while     A  allow it until vproxy egress reset',
  'd  deny it for a while      D  deny it until vproxy egress reset',
  'j, k or arrows  select      ?  this help      q  quit',
];

const DEFAULT_FOR_S = 3600;

export const watch: Command = {
  usage: 'egress watch [LABEL] [--for TIME]',
  about:
    'Shows the destinations that wait for an answer, live. Keys answer the selected one: a allows it for a while, A until vproxy egress reset, d and D deny it; ? shows all keys. If the output is not a terminal, prints a line for each question.',
  examples: [['vproxy egress watch', 'Of all channels']],
  options: { for: { value: 'TIME', describe: `${FOR}, of a and d [default: 1h]` }, ...CHANNEL_FILTER },
  operands: ['[LABEL]'],
  async run(args) {
    const channel = channelOf(args, args.operands[0]);
    const forS = args.seconds('for', 1, MAX_FOR_S) ?? DEFAULT_FOR_S;
    const control = await openControl(args);
    // Fail before the screen is switched, so that the error stays visible.
    await (channel === undefined ? control.egressQuestions() : control.channel(channel));
    if (obeysEscapes(process.stdout)) await showScreen(control, channel, forS);
    else await printLines(control, channel);
  },
};

async function printLines(control: ControlClient, channel: string | undefined): Promise<void> {
  // Not by events: their number is limited, and they end with an upgrade.
  let known = new Set<string>();
  for (;;) {
    const questions = await read(control, channel);
    for (const { channel: label, destination, egress, id } of questions)
      if (!known.has(id)) print(`${escapeText(`${label}/${id} ${egress} ${destination}`, 1024)}\n`);
    known = new Set(questions.map(({ id }) => id));
    await delay(INTERVAL_MS);
  }
}

const INTERVAL_MS = 500;

/** A key so soon after another question came under the cursor was meant for the one before. */
const SETTLE_MS = 400;

const inPieces = (text: string, width: number): string[] => {
  const count = Math.ceil(text.length / width);
  return Array.from({ length: count }, (_, at) => text.slice(at * width, (at + 1) * width));
};

async function showScreen(control: ControlClient, channel: string | undefined, forS: number): Promise<void> {
  let isHelping = false;
  let told = '';
  let answered = '';
  let selected: { readonly question: EgressQuestion; readonly sinceMs: number } | null = null;
  const select = (question: EgressQuestion | undefined): void => {
    if (question?.id !== selected?.question.id)
      selected = question === undefined ? null : { question, sinceMs: performance.now() };
  };
  const answers: Readonly<Record<string, readonly [isAllowed: boolean, forS: number | undefined]>> = {
    ...{ a: [true, forS], A: [true, undefined], d: [false, forS], D: [false, undefined] },
  };
  await showLive<readonly EgressQuestion[]>({
    intervalMs: INTERVAL_MS,
    look: (signal) => read(control, channel, signal),
    async onText(key) {
      if (key === '?') isHelping = !isHelping;
      const [isAllowed, time] = answers[key] ?? [];
      if (isAllowed === undefined || selected === null || performance.now() - selected.sinceMs < SETTLE_MS) return;
      const { channel: label, destination, id } = selected.question;
      if (id === answered) return;
      // A second key is not for the same question, unless the first had no effect.
      answered = id;
      try {
        await control.answerEgress({ id, channel: label, isAllowed, forS: time });
        const until = time === undefined ? 'until reset' : `for ${formatDuration(time * 1000)}`;
        told = `${destination}: ${isAllowed ? 'allowed' : 'denied'} ${until}`;
      } catch (error) {
        answered = '';
        told = `${destination}: ${describeError(error)}`;
      }
    },
    render(questions, scroll, { width, height }) {
      const index = Math.max(0, Math.min(scroll, questions.length - 1));
      const one = questions[index];
      const whole = one === undefined ? [] : inPieces(`${one.channel}/${one.egress}: ${one.destination}`, width);
      const table = formatTable(
        [{ title: '', cell: (each) => (each === one ? '>' : ' ') }, ...QUESTION_COLUMNS],
        questions,
        width,
      );
      const rows = questions.length === 0 ? [NO_QUESTION] : table;
      const foot = [...whole, ...(isHelping ? HELP : [escapeText(told, width) || 'a allow, d deny, ? help, q quit'])];
      const room = Math.max(2, height - foot.length - 1);
      const first = Math.max(0, index + 2 - room);
      const shown = [...rows.slice(0, 1), ...rows.slice(1 + first, first + room), ''];
      const lines = [...shown, ...foot];
      // A key answers only what is shown in full.
      select(shown.length + whole.length <= height ? one : undefined);
      return { lines: lines.slice(0, height).map((line) => line.slice(0, width)), scroll: index };
    },
  });
}

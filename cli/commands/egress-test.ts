/** `vproxy egress test`: tests whether an egress lets the peer reach a destination. */

import type { EgressTestRequest } from '../../lib/control/client/requests.js';
import { ERROR_CODES } from '../../lib/errors.js';
import type { EgressTest } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { byLabel, chooseChannel } from '../../lib/util/labels.js';
import { CHANNEL_OPTION, type Command, JSON_OPTION } from '../command/command.js';
import { openControl } from '../command/control-client.js';
import { channelOf, splitLabel } from '../command/labels.js';
import { EXIT_OK } from '../exit.js';
import { printAnswer } from '../ui/print.js';

export const command: Command = {
  usage: 'egress test [CHANNEL/]EGRESS DESTINATION:PORT [--channel LABEL] [--config FILE] [--json]',
  about:
    'Tests whether an egress lets the peer reach a destination, as in vproxy egress test internet example.org:443, and prints the rule that decides. The name is resolved as for the peer, and each of its addresses is checked; nothing is connected to. The status is 77 if it may not be reached.',
  examples: [
    ['vproxy egress test internet deb.debian.org:443', 'Ask the running vproxy'],
    ['vproxy egress test internet example.org:80 --config host1.toml', 'Test a file before it takes effect'],
  ],
  options: {
    ...CHANNEL_OPTION,
    config: { value: 'FILE', describe: 'Test this configuration file instead of a running vproxy' },
    ...JSON_OPTION,
  },
  operands: ['EGRESS', 'DESTINATION:PORT'],
  async run(args) {
    const [text = '', destination = ''] = args.operands;
    const { label, rest: name } = splitLabel(text);
    const file = args.text('config');
    const request = { name, destination, channel: channelOf(args, label) };
    const answer =
      file === undefined ? await (await openControl(args)).testEgress(request) : await testFile(file, request);
    printAnswer(args, answer, () => describe(answer));
    return answer.isAllowed ? EXIT_OK : ERROR_CODES.denied.exit;
  },
};

/** Tests with the rules of a file. Rejects with a `BadFileError`, or like a running vproxy. */
async function testFile(file: string, { name, destination, channel }: EgressTestRequest): Promise<EgressTest> {
  const [{ readAlone }, { resolveEgress }, { testEgress, parseEgressDestination }, { systemClock }] = await Promise.all(
    [
      import('./check.js'),
      import('../../lib/proxy/egress/definitions.js'),
      import('../../lib/proxy/egress/test-egress.js'),
      import('../../lib/util/clock.js'),
    ],
  );
  const { channels } = await readAlone(file);
  const found = chooseChannel(byLabel(channels), channel);
  const own = { channel: found.label, egresses: resolveEgress(found.egress ?? {}, found.label) };
  const { signal } = new AbortController();
  return testEgress(own, name, parseEgressDestination(destination), { clock: systemClock, signal });
}

/** A line for the destination, and one for each of its addresses. */
function describe(answer: EgressTest): string[] {
  const { channel, name, destination, addresses } = answer;
  const what = answer.isAllowed ? 'is allowed' : 'is not allowed';
  const waits = answer.isAsked ? '; a connection waits for an answer' : '';
  const lines = [
    `${destination} ${what} by egress "${name}" of channel ${channel}: ${reasonOf(answer)}${waits}`,
    ...addresses.map((one) => `  ${one.address} ${one.isAllowed ? 'is allowed' : 'is not allowed'}: ${reasonOf(one)}`),
  ];
  return lines.map((line) => escapeText(line, 1024));
}

/** The deciding entry, and why it decides. */
function reasonOf({ rule, why }: Pick<EgressTest, 'rule' | 'why'>): string {
  return rule === null ? why : `${rule} (${why})`;
}

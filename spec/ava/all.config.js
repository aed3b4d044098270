import { readFileSync } from 'node:fs';
import { longestFirst } from '../../tools/test/longest-first.mjs';

const { ava } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));

/**
 * Specs without virtual machines. They run compiled, each file in its own process; many wait, so four run at a time. What `npx ava`
 * also needs is in package.json; its timeout is for a process that is stuck in a loop, since they have deadlines of their own
 * (tools/test/spec-process.mjs).
 */
export default {
  ...ava,
  sortTestFiles: longestFirst(
    'many-channels.slow copy.slow site.slow scenes.slow ansible.slow upgrade.slow sweeps.slow egress-programs.slow held.slow',
    'neighbours.slow running.slow upgrade-end.slow floods.slow lost.slow streams.slow announced-ports.slow demo.slow completion.slow',
  ),
};

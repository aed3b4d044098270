/** The pattern of a group and the name of a file: what its `*` stands for is what a plain pattern finds, and leads back to that file. */
import assert from 'node:assert/strict';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { GroupPattern, memberLabelProblem } from '../../../lib/proxy/groups/group-pattern.js';
import { FuzzInput } from '../fuzz-input.js';
import { assertShowable, outcomeOf } from '../outcome.js';

/** Input: the address of a group and, behind a newline, the name of a file. */
export function fuzzGroupNames(bytes: Uint8Array): void {
  const [address = '', name = ''] = new FuzzInput(bytes).text().split('\n');
  const outcome = outcomeOf(['bad-argument'], () => new GroupPattern(address));
  // No file has such a name.
  if ('code' in outcome || name === '' || /[/\0]/.test(name)) return;
  const pattern = outcome.value;
  const [folder = '', prefix = '', suffix = ''] = /^(.*\/|)([^/]*)\*([^/]*)$/s.exec(pattern.path)?.slice(1) ?? [];
  const part = pattern.match(name);
  assert.equal(part, plainMatch(name, prefix, suffix));
  if (part === null) return;
  const path = `${folder}${name}`;
  assert.equal(pattern.pathOf(part), path);
  const problem = memberLabelProblem(part);
  if (problem !== null) {
    assertShowable(problem);
    return;
  }
  assert.match(part, /^[a-z0-9][a-z0-9._-]{0,63}$/);
  // The path of a member may be longer than that of the group, and too long.
  const member = outcomeOf(['bad-argument'], () => parseChannel(pattern.addressOf(part)));
  if ('value' in member) assert.deepEqual([member.value.kindName, member.value.address], ['unix-connect', path]);
}

function plainMatch(name: string, prefix: string, suffix: string): string | null {
  const length = name.length - prefix.length - suffix.length;
  const part = name.substring(prefix.length, prefix.length + length);
  if (length < 1 || name !== `${prefix}${part}${suffix}`) return null;
  return prefix === '' && name.startsWith('.') ? null : part;
}

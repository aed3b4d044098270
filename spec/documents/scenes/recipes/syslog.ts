/** docs/recipes.md, a guest's syslog in a file of the host: messages of logger(1), enough to rotate the file. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { eventually } from '../../../helpers/time.js';
import type { Scene } from '../../runner/scene.js';
import { SAME_MACHINE, standInForPort } from './same-machine.js';

const LOG = '/var/log/vm1.log';
const LINES = 120_000;

export const syslog: Scene = {
  needs: ['socat'],
  ...SAME_MACHINE,
  prepare: standInForPort,
  async check(stage) {
    const lines = `awk 'BEGIN { for (i = 1; i <= ${LINES}; i++) printf "<14>Nov 20 09:00:00 vm1 scene: line %06d, and what makes it a long one: ${'x'.repeat(40)}\\n", i }'`;
    await stage.run(`${lines} | socat -u - TCP:127.0.0.1:514`);
    const last = `line ${LINES},`;
    await eventually(() => readFileSync(LOG, 'utf8').includes(last), { what: 'the last line' });
    assert.ok(existsSync(`${LOG}.1`), 'nothing was rotated');
    const text = [`${LOG}.1`, LOG].map((file) => readFileSync(file, 'utf8')).join('');
    assert.equal(text.match(/ line \d{6}, /g)?.length, LINES);
  },
};

/** What the state of a peer's boot means for those who wait for it. */
import type { BootState, BootStatus } from '../status/types.js';
import { escapeText } from '../util/escape.js';

/** Whether it is over, and what there is to say of it. */
export function judgeBoot(state: BootState): Pick<BootStatus, 'verdict' | 'remarks'> {
  const parts = [judgeSystemd(state), judgeCloudInit(state)];
  const remarksOf = (wanted: Part['verdict']) =>
    parts.flatMap(({ verdict, remark }) => (verdict === wanted && remark !== null ? [remark] : []));
  if (parts.some(({ verdict }) => verdict === 'booting')) return { verdict: 'booting', remarks: remarksOf('booting') };
  const verdict = parts.some((part) => part.verdict === 'failed') ? 'failed' : 'booted';
  return { verdict, remarks: [...remarksOf('failed'), ...remarksOf('booted')] };
}

interface Part {
  readonly verdict: BootStatus['verdict'];
  readonly remark: string | null;
}

function judgeSystemd({ systemd, systemdError, failedUnits }: BootState): Part {
  switch (systemd) {
    // Whatever other init there is: it has started what answers.
    case null:
    case 'offline':
    case 'running':
      return { verdict: 'booted', remark: null };
    case 'degraded': {
      const units = escapeText(failedUnits.join(', ') || 'a unit', 1024);
      return { verdict: 'failed', remark: `systemd is degraded: ${units} failed` };
    }
    case 'maintenance':
      return { verdict: 'failed', remark: 'systemd is in maintenance: its rescue or emergency mode' };
    case 'unknown':
      return {
        verdict: 'booting',
        remark: `systemd cannot be asked: ${escapeText(systemdError ?? 'no reason given')}`,
      };
    case 'initializing':
    case 'starting':
    case 'stopping':
      return { verdict: 'booting', remark: `systemd is ${systemd}` };
  }
}

function judgeCloudInit({ cloudInit, cloudInitError }: BootState): Part {
  const why = cloudInitError === null ? '' : `: ${escapeText(cloudInitError)}`;
  switch (cloudInit) {
    case null:
    case 'disabled':
    case 'done':
      return { verdict: 'booted', remark: null };
    case 'degraded':
      return { verdict: 'booted', remark: `cloud-init has recovered from an error${why}` };
    case 'error':
      return { verdict: 'failed', remark: `cloud-init has failed${why}` };
    case 'not-started':
      return { verdict: 'booting', remark: 'cloud-init has not started' };
    case 'running':
      return { verdict: 'booting', remark: 'cloud-init is running' };
  }
}

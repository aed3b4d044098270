/** Judges the boot progress of a peer. */
import type { BootState, BootStatus } from '../../status/types.js';
import { escapeText } from '../../util/escape.js';

/** Returns whether the boot is over, with remarks. */
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
    // Another init: it has started vproxy, so it counts as booted.
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
        remark: `cannot query systemd: ${escapeText(systemdError ?? 'no reason given')}`,
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
      return { verdict: 'booted', remark: `cloud-init recovered from an error${why}` };
    case 'error':
      return { verdict: 'failed', remark: `cloud-init failed${why}` };
    case 'not-started':
      return { verdict: 'booting', remark: 'cloud-init has not started' };
    case 'running':
      return { verdict: 'booting', remark: 'cloud-init is running' };
  }
}

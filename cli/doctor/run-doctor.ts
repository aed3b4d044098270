/** The doctor from a request to its findings. */
import type { Diagnosis } from './finding.js';
import type { Machine } from './machine.js';
import { planJobs } from './plan.js';
import type { DoctorRequest } from './request.js';
import { runJobs } from './run-jobs.js';

/** Everything that was found, in the order in which it is shown. Takes 2.5 times `timeoutMs` of the machine at most: the control sockets are asked first. */
export async function runDoctor(machine: Machine, request: DoctorRequest): Promise<Diagnosis[]> {
  return runJobs(await planJobs(machine, request), machine.options.timeoutMs);
}

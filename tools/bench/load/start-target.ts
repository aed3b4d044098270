/** Starting the far end of the load. */
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { eventually } from '../../../spec/helpers/time.js';
import type { Programs, RunningProgram } from '../process/programs.js';

/** The far end of the load, and the port of 127.0.0.1 that it listens on. */
export async function startTarget(
  programs: Programs,
): Promise<{ readonly program: RunningProgram; readonly port: number }> {
  const program = programs.startScript(join(PROJECT_ROOT, 'dist/tools/bench/load/target.js'), []);
  const what = "the port of the load's far end";
  const port = await eventually(() => Number(program.lastLine()) || null, { what });
  return { program, port };
}

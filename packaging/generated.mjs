/** The modules that a build generates in the source tree; .gitignore lists them, too. */
export const GENERATED = {
  statusTypes: 'lib/status/types.ts',
  requestTypes: 'lib/control/client/requests.ts',
  shellScripts: 'cli/completion/scripts.ts',
  handoverForm: 'cli/upgrade/form.ts',
};

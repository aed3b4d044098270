/** The modules that a build writes beside those that people write; .gitignore has them, too. */
export const GENERATED = {
  statusTypes: 'lib/status/types.ts',
  requestTypes: 'lib/control/client/requests.ts',
  shellScripts: 'cli/completion/scripts.ts',
  handoverForm: 'cli/upgrade/form.ts',
};

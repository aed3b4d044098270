// In place of the parts of yargs that read no arguments: commands, help and completion. vproxy has its own, so in the bundles yargs
// calls these methods, and they do nothing.
const nothing = () => undefined;
const kept = { freeze: nothing, unfreeze: nothing };

export const command = () => {
  const self = { ...kept, getCommands: () => [], hasDefaultCommand: () => false, reset: () => self };
  return self;
};

export const completion = () => ({ setParsed: nothing });

/** Only reports failures, to the functions given for them. */
export const usage = () => {
  const fails = [];
  const self = {
    ...kept,
    reset: () => self,
    failFn: (fail) => fails.push(fail),
    fail: (message, error) => {
      for (const fail of fails) fail(message, error);
    },
    deferY18nLookup: (text) => text,
    clearCachedHelpMessage: nothing,
    hasCachedHelpMessage: () => false,
    describe: nothing,
    getDescriptions: () => ({}),
    version: nothing,
  };
  return self;
};

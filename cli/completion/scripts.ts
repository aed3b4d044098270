/**
 * The scripts that tell a shell how to complete command lines of vproxy. Each asks the program what can be at the cursor
 * (`complete.ts` says in which lines it answers), adds paths in the way of its shell, and shows what there is.
 */

/** For bash 4.3 or newer; it needs nothing of the package bash-completion. */
const BASH = `# Completion of vproxy for bash: the program says what can be at the cursor.
_vproxy() {
  local adds before typed word rest cut
  local -a found=() paths=()
  COMPREPLY=()
  {
    IFS= read -r adds
    IFS= read -r before
    IFS= read -r typed
    while IFS=$'\\t' read -r word rest; do found+=("$word"); done
  } < <(vproxy __complete --line "\${COMP_LINE:0:COMP_POINT}" 2> /dev/null)
  case $adds in
    files) mapfile -t paths < <(compgen -P "$before" -f -- "$typed") ;;
    folders) mapfile -t paths < <(compgen -P "$before" -d -- "$typed") ;;
    users) mapfile -t paths < <(compgen -P "$before" -u -- "$typed") ;;
  esac
  # Where names of files are said to be, readline quotes colons, too.
  if ((\${#found[@]} == 0)) && [[ $adds == f* ]]; then compopt -o filenames 2> /dev/null; fi
  COMPREPLY=("\${found[@]}" "\${paths[@]}")
  if [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *[:=/] ]]; then compopt -o nospace 2> /dev/null; fi
  # readline replaces what is behind the last of the characters at which it cuts words.
  cut=$before$typed
  if [[ $COMP_WORDBREAKS == *:* ]]; then cut=\${cut##*:}; fi
  if [[ $COMP_WORDBREAKS == *=* ]]; then cut=\${cut##*=}; fi
  word=$before$typed
  cut=\${word%"$cut"}
  COMPREPLY=("\${COMPREPLY[@]#"$cut"}")
}

complete -F _vproxy vproxy
`;

/** For a folder of `fpath`, or to be read as it is. */
const ZSH = `#compdef vproxy
# Completion of vproxy for zsh: the program says what can be at the cursor.
_vproxy() {
  local line word result=1
  local -a whole open
  local -a given=("\${(@Q)words[1,CURRENT-1]}" "\${(Q)PREFIX}")
  local -a answer=("\${(@f)$(_call_program words vproxy __complete "\${(@q)given}" 2> /dev/null)}")
  for line in "\${(@)answer[4,-1]}"; do
    word=\${line%%$'\\t'*}
    line="\${word//:/\\\\:}:\${line#*$'\\t'}"
    # Something else follows in the same word.
    if [[ $word == *[:=/] ]]; then open+=("$line"); else whole+=("$line"); fi
  done
  if (( $#whole )); then _describe -t words vproxy whole && result=0; fi
  if (( $#open )); then _describe -t words vproxy open -S '' && result=0; fi
  if [[ -n $answer[2] ]]; then compset -P "\${(b)answer[2]}"; fi
  case $answer[1] in
    (files) _files && result=0 ;;
    (folders) _files -/ && result=0 ;;
    (users) _users && result=0 ;;
  esac
  return result
}

if [[ $funcstack[1] == _vproxy ]]; then
  _vproxy "$@"
else
  compdef _vproxy vproxy
fi
`;

/** For fish 3.0 or newer. */
const FISH = `# Completion of vproxy for fish: the program says what can be at the cursor.
function __vproxy_complete
    set -l current (commandline -ct)
    set -l answer (command vproxy __complete (commandline -opc) "$current" 2>/dev/null)
    printf '%s\\n' $answer[4..-1]
    switch "$answer[1]"
        case files
            printf '%s\\n' "$answer[2]"(__fish_complete_path "$answer[3]")
        case folders
            printf '%s\\n' "$answer[2]"(__fish_complete_directories "$answer[3]" '')
        case users
            __fish_complete_users
    end
end

complete -c vproxy -f -a '(__vproxy_complete)'
`;

/** The shells for which there is a script. */
export const SHELLS = ['bash', 'zsh', 'fish'] as const;

const SCRIPTS = { bash: BASH, zsh: ZSH, fish: FISH } as const;

/** The script for a shell, as its own programs load it. */
export const completionScript = (shell: (typeof SHELLS)[number]): string => SCRIPTS[shell];

#compdef vproxy
# Completion of vproxy for zsh: the program itself completes the line.
_vproxy() {
  local line word result=1
  local -a whole open
  local -a given=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
  local -a answer=("${(@f)$(_call_program words vproxy __complete "${(@q)given}" 2> /dev/null)}")
  for line in "${(@)answer[4,-1]}"; do
    word=${line%%$'\t'*}
    line="${word//:/\\:}:${line#*$'\t'}"
    # More follows in the same word.
    if [[ $word == *[:=/] ]]; then open+=("$line"); else whole+=("$line"); fi
  done
  if (( $#whole )); then _describe -t words vproxy whole && result=0; fi
  if (( $#open )); then _describe -t words vproxy open -S '' && result=0; fi
  if [[ -n $answer[2] ]]; then compset -P "${(b)answer[2]}"; fi
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

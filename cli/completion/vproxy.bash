# Completion of vproxy for bash: the program itself completes the line.
_vproxy() {
  local adds before typed word rest cut
  local -a found=() paths=()
  COMPREPLY=()
  {
    IFS= read -r adds
    IFS= read -r before
    IFS= read -r typed
    while IFS=$'\t' read -r word rest; do found+=("$word"); done
  } < <(vproxy __complete --line "${COMP_LINE:0:COMP_POINT}" 2> /dev/null)
  case $adds in
    files) mapfile -t paths < <(compgen -P "$before" -f -- "$typed") ;;
    folders) mapfile -t paths < <(compgen -P "$before" -d -- "$typed") ;;
    users) mapfile -t paths < <(compgen -P "$before" -u -- "$typed") ;;
  esac
  # With -o filenames, readline also quotes colons.
  if ((${#found[@]} == 0)) && [[ $adds == f* ]]; then compopt -o filenames 2> /dev/null; fi
  COMPREPLY=("${found[@]}" "${paths[@]}")
  if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:=/] ]]; then compopt -o nospace 2> /dev/null; fi
  # readline replaces only the text after the last word break.
  cut=$before$typed
  if [[ $COMP_WORDBREAKS == *:* ]]; then cut=${cut##*:}; fi
  if [[ $COMP_WORDBREAKS == *=* ]]; then cut=${cut##*=}; fi
  word=$before$typed
  cut=${word%"$cut"}
  COMPREPLY=("${COMPREPLY[@]#"$cut"}")
}

complete -F _vproxy vproxy

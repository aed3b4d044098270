# The terminal of a scene: reads paths of files from descriptor 3, and runs each in this shell, which ends with the first
# that fails. Behind each it says "done STATUS" on descriptor 4. A file called *.free may fail.
set -eu
trap 'printf "%s\n%s\n" "$LINENO" "$BASH_COMMAND" > "$file.failed"' ERR
while IFS= read -r file <&3; do
  status=0
  case $file in
    *.free)
      set +e
      source "$file" < /dev/null > "$file.out" 2>&1 3<&- 4>&-
      status=$?
      set -e
      ;;
    *) source "$file" < /dev/null > "$file.out" 2>&1 3<&- 4>&- ;;
  esac
  echo "done $status" >&4
done

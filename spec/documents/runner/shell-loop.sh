# The terminal of a scene: reads file paths from descriptor 3, and runs each in this shell, which exits at the first
# failure. After each it writes "done STATUS" to descriptor 4. A file called *.free may fail.
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

# Completion of vproxy for fish: the program itself completes the line.
function __vproxy_complete
    set -l current (commandline -ct)
    set -l answer (command vproxy __complete (commandline -opc) "$current" 2>/dev/null)
    printf '%s\n' $answer[4..-1]
    switch "$answer[1]"
        case files
            printf '%s\n' "$answer[2]"(__fish_complete_path "$answer[3]")
        case folders
            printf '%s\n' "$answer[2]"(__fish_complete_directories "$answer[3]" '')
        case users
            __fish_complete_users
    end
end

complete -c vproxy -f -a '(__vproxy_complete)'

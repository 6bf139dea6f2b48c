# Completion of dlgsum for fish; `dlgsum completion fish` prints it.
function __dlgsum_complete
    set -l program (commandline -opc)
    set -l before $program[2..-1]
    set -l word (commandline -ct | string collect --allow-empty)
    $program[1] __complete fish (count $before) $before $word 2>/dev/null </dev/null
end
complete --command dlgsum --no-files --keep-order --arguments '(__dlgsum_complete)'

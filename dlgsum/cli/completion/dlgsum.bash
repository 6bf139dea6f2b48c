# Completion of dlgsum for bash; `dlgsum completion bash` prints it.
_dlgsum() {
    local reply
    COMPREPLY=()
    # bash cuts words at = and :, so dlgsum gets the line as it was typed and answers with what follows the last cut.
    while IFS= read -r reply; do
        COMPREPLY+=("$reply")
    done < <("${1/#\~\//$HOME/}" __complete bash \
        "${COMP_LINE:0:COMP_POINT}" "${COMP_LINE:COMP_POINT}" "$COMP_WORDBREAKS" 2>/dev/null </dev/null)
    if [[ "${COMPREPLY[*]}" == */* ]]; then
        compopt -o filenames 2>/dev/null
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=./] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    return 0
}
complete -o nosort -F _dlgsum dlgsum 2>/dev/null || complete -F _dlgsum dlgsum

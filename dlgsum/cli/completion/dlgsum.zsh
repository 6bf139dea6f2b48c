#compdef dlgsum
# Completion of dlgsum for zsh; `dlgsum completion zsh` prints it.
_dlgsum() {
    local word="${(Q)PREFIX}" head= line value help
    local -a before after finished unfinished
    (( CURRENT > 2 )) && before=("${(@Q)words[2,CURRENT-1]}")
    (( CURRENT < $#words )) && after=("${(@Q)words[CURRENT+1,-1]}")
    # Only what follows `key=` and the last folder is completed and shown.
    [[ $word == *=* ]] && head="${word%%=*}=" && compset -P 1 '*='
    [[ ${word#"$head"} == */* ]] && head+="${${word#"$head"}%/*}/" && compset -P '*/'
    for line in "${(@f)$("${~${(Q)words[1]}}" __complete zsh $#before "${before[@]}" "$word" "${after[@]}" 2>/dev/null </dev/null)}"; do
        [[ -z $line ]] && continue
        value="${${line%%$'\t'*}#"$head"}"
        help="${line#*$'\t'}"
        value="${${value//\\/\\\\}//:/\\:}${help:+:$help}"
        if [[ ${line%%$'\t'*} == *[=./] ]]; then unfinished+=("$value"); else finished+=("$value"); fi
    done
    local found=1
    (( $#finished )) && _describe -V 'dlgsum' finished && found=0
    (( $#unfinished )) && _describe -V 'dlgsum' unfinished -S '' && found=0
    return found
}
if [[ "${zsh_eval_context[-1]}" == loadautofunc ]]; then
    _dlgsum "$@"
else
    (( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i; }
    compdef _dlgsum dlgsum
fi

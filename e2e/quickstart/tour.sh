# What the quickstart shows: each step measures what it says.
# shellcheck shell=bash

readonly SHOP=http://bookstore.bookstore:14001

told() { printf '    %s\n' "$*"; }
chapter() { printf '\n%s\n' "${BOLD}$*${PLAIN}"; }

# Prints what a Python expression over the last report, `r`, comes to.
report() { "${PYTHON[@]}" -c 'import json,sys; r=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$ANSWERS" "$1"; }

# Calls as a workload, keeps the report, and succeeds if it meets a condition.
answers() {
    local condition=$1 who=$2
    shift 2
    as "$who" "$BOOKSTORE" "$@" >"$ANSWERS" 2>/dev/null
    [[ $(report "$condition") == True ]]
}

# Repeats a check until it succeeds: proxies receive a change within moments, not immediately.
settle() {
    local what=$1 end=$((SECONDS + 20))
    shift
    until "$@"; do
        ((SECONDS < end)) || die "the mesh does not do what it should: $what; last answer: $(cat "$ANSWERS")"
        sleep 0.05
    done
}

show_all() {
    chapter "1. Who may? The policy allows the bookbuyer only."
    who_may
    chapter "2. Why not? What \`smidge explain\` says about the thief's 403."
    why_not
    chapter "3. Who is who? Each side knows the other by its SPIFFE ID, from its certificate."
    identities
    chapter "4. What of callers without a proxy? Their plaintext is refused."
    plaintext
    chapter "5. Not only HTTP: the store speaks TCP."
    store
    chapter "6. The split moves by an edit of $MESH/split.yaml, while requests flow."
    moving_split
    chapter "7. The control plane is killed and started again, while requests flow."
    restart
}

who_may() {
    settle "the bookbuyer gets 200" answers 'r["status"] == {"200": r["requests"]}' bookbuyer call \
        --url "$SHOP/books" --count 100 --concurrency 4 --output json
    told "bookbuyer asked $(report 'r["requests"]') times for books: ${GREEN}200$PLAIN $(report 'r["status"]["200"]') times."
    settle "the bookthief gets 403" answers 'r["status"] == {"403": r["requests"]}' bookthief call \
        --url "$SHOP/books" --count 100 --concurrency 4 --output json
    told "bookthief asked $(report 'r["requests"]') times: ${RED}403$PLAIN $(report 'r["status"]["403"]') times. The response:"
    told "    $DIM$(report 'r["samples"]["403"]')$PLAIN"
}

why_not() {
    { "$SMIDGE" explain bookthief/bookthief bookstore/bookstore --path /books -f "$MESH" || true; } >"$ANSWERS"
    grep -q '^denied' "$ANSWERS" || die "explain does not deny the call: $(cat "$ANSWERS")"
    sed '/^this would allow/,$d; s/^/    /' "$ANSWERS"
    told "… and the objects that would allow it: $(sed -n '/^this would allow/,$p' "$ANSWERS" | grep '^kind:' |
        sed 's/kind: //' | paste -sd, | sed 's/,/, /g')."
}

identities() {
    local name
    for name in bookbuyer bookstore-v1 bookstore-v2 store; do
        told "$(printf '%-13s' "$name") is $(identity "$name")"
    done
}

# The URI of the certificate that the proxy of a workload presents.
identity() {
    as "$1" "${PYTHON[@]}" "$HERE/admin" /certs '{n["uri"] for c in page["certificates"] for x in c.get("cert_chain", [])
        for n in x.get("subject_alt_names", []) if "/sa/" in n.get("uri", "")}' | grep . || die "$1 has no identity"
}

plaintext() {
    answers 'r["status"] == {}' outsider call --url http://10.77.0.13:14001/books --count 10 --output json ||
        die "a caller without a proxy was answered: $(cat "$ANSWERS")"
    told "outsider, a machine without a proxy, asked $(report 'r["requests"]') times: no answer at all" \
        "($(report '", ".join(f"{n} × {why}" for why, n in r["failures"].items())'))."
}

store() {
    settle "the bookbuyer reaches the store" answers 'r["answered"] == 1' bookbuyer dial --address store.bookwarehouse:14003
    told "bookbuyer sent PING to the store: the answer was ${GREEN}$(report 'r["last"]')$PLAIN."
    settle "the thief does not reach the store" answers 'r["answered"] == 0' bookthief dial \
        --address store.bookwarehouse:14003
    told "bookthief sent PING to the store: ${RED}no answer$PLAIN, the connection was $(report 'r["end"]')."
}

# Writes the weights of v1 and v2 into the file, as an editor does.
weigh() {
    sed "s/\(bookstore-v1, weight: \)[0-9]*/\1$1/; s/\(bookstore-v2, weight: \)[0-9]*/\1$2/" \
        "$ROOT/examples/bookstore/standalone/split.yaml" >"$MESH/.split.yaml"
    mv "$MESH/.split.yaml" "$MESH/split.yaml"
}

moving_split() {
    local weights edited
    start_load
    for weights in "50 50" "0 100" "100 0"; do
        edited=$(now_ms)
        # shellcheck disable=SC2086 # two numbers
        weigh $weights
        settle "every proxy has the weights $weights" updated_since "$edited"
        local took=$((UPDATED - edited))
        answers 'r["status"] == {"200": r["requests"]}' bookbuyer call --url "$SHOP/books" --count 500 --concurrency 4 \
            --output json || die "requests failed: $(cat "$ANSWERS")"
        told "weights $(printf '%-7s' "${weights/ //}") at the last proxy after ${BOLD}$took ms$PLAIN: of" \
            "$(report 'r["requests"]') requests v1 answered $(percent v1), v2 $(percent v2)"
    done
    end_load
}

percent() { report "f'{r[\"served_by\"].get(\"$1\", 0) * 100 / r[\"requests\"]:.1f} %'"; }

now_ms() { date +%s%3N; }

# Succeeds if every proxy that has the route of the split has received it since then; UPDATED is the time of the last.
updated_since() {
    local workload at
    UPDATED=0
    for workload in "${WORKLOADS[@]}"; do
        at=$(as "${workload%% *}" "${PYTHON[@]}" "$HERE/admin" '/config_dump?resource=dynamic_route_configs' \
            '[milliseconds(c["last_updated"]) for c in page.get("configs", [])
                if c["route_config"]["name"] == "bookstore/bookstore/14001"]')
        [[ -n $at ]] || continue
        ((at >= $1)) || return 1
        ((at <= UPDATED)) || UPDATED=$at
    done
    ((UPDATED > 0))
}

# Requests that flow while something else happens.
start_load() {
    coproc LOAD { as bookbuyer "$BOOKSTORE" call --url "$SHOP/books" --concurrency 4 --rate 100 --until-line --output json; }
    LOAD_SAID=${LOAD[0]} LOAD_STOP=${LOAD[1]} LOAD_ID=$LOAD_PID
}

end_load() {
    printf 'stop\n' >&"$LOAD_STOP"
    cat <&"$LOAD_SAID" >"$ANSWERS"
    wait "$LOAD_ID"
    [[ $(report 'r["status"] == {"200": r["requests"]} and r["connections"] == 4') == True ]] ||
        die "requests failed or connections were closed meanwhile: $(cat "$ANSWERS")"
    told "Meanwhile $(report 'r["requests"]') requests flowed over $(report 'r["connections"]') connections:" \
        "${GREEN}none failed$PLAIN, and no connection was closed."
}

restart() {
    start_load
    kill_control_plane
    start_control_plane
    settle "every proxy is back" reconnected
    end_load
    told "The proxies that came back were sent ${BOLD}$(sent)$PLAIN resources of the mesh's: they had them all."
}

reconnected() {
    inside "$SMIDGE" status --state "$STATE_FOLDER" --output json >"$ANSWERS" 2>/dev/null || true
    [[ $(report "len(r['proxies']) == ${#WORKLOADS[@]} and all(p['settled'] for p in r['proxies'])" 2>/dev/null) == True ]]
}

# The number of resources that all proxies were sent, without their own certificates.
sent() {
    inside "$SMIDGE" status --state "$STATE_FOLDER" --output json >"$ANSWERS" || true
    report "sum(n[1] for p in r['proxies'] for kind, n in p['sent'].items())"
}

farewell() {
    chapter "All of that runs on, after $1 s."
    cat <<EOF

    $MESH/                       # the mesh: edit a file, it is in force at once
    $WORK/log/                   # what the programs say

Try next:

    quickstart=$HERE/quickstart
    \$quickstart status
    \$quickstart call bookbuyer $SHOP/books --count 10
    \$quickstart call bookthief $SHOP/books
    \$quickstart explain bookthief/bookthief bookstore/bookstore --path /books
    sed -i 's/weight: 0/weight: 25/' $MESH/split.yaml && \$quickstart call bookbuyer $SHOP/books --count 1000

\`make quickstart\` shows it again, \`make quickstart-down\` ends all of it. The same in Kubernetes: \`make demo\`.
EOF
}

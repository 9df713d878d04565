//! Work: the steps of a request are counted, so that it always ends, and always at the same place.

use super::*;

const LOOPS: &str = "{% for a in range(end=200) %}{% for b in range(end=200) %}\
    {% if transaction.content is containing(pat='aaaaaaaaab') %}x{% endif %}{% endfor %}{% endfor %}";

fn letter(body: String) -> CreateTicket {
    CreateTicket { content: Some(text(&body)), ..new_ticket() }
}

fn mailing(mut desk: Desk, count: usize, more: &Value) -> Desk {
    for n in 0..count {
        let mail = json!({ "to": ["x@example.net"] });
        desk = desk.scrip(&format!("Mail {n}"), ("OnCreate", json!({})), ("SendEmail", mail), more.clone());
    }
    desk
}

fn errors(plan: &Plan) -> Vec<&str> {
    let errors = plan.transactions.iter().filter(|one| one.transaction_type == TransactionType::SystemError);
    errors.filter_map(|one| one.new_value.as_deref()).collect()
}

#[test]
fn a_request_of_heavy_scrips_stops_at_its_steps_and_keeps_what_ran_before() {
    let raise = ("SetPriority", json!({ "value": "7" }));
    let desk =
        Desk::new().template("Heavy", "s", LOOPS).scrip("First", ("OnCreate", json!({})), raise, json!({}));
    let catalog = mailing(desk, 40, &json!({ "template": "Heavy" })).open();
    let plan = create(&catalog, letter("a".repeat(64 * 1024))).unwrap();
    assert_eq!((verdict_of(&plan, "First"), plan.ticket.priority), (Verdict::Fired, 7));
    let stopped: Vec<_> = plan.evaluations.iter().filter(|one| one.verdict == Verdict::Stopped).collect();
    assert_eq!(stopped.len(), 1, "the scrips after it are not considered");
    assert!(plan.evaluations.len() < 20, "{}", plan.evaluations.len());
    let of_budget: Vec<_> = errors(&plan)
        .into_iter()
        .filter(|error| error.contains("10000000 steps of work"))
        .map(str::to_owned)
        .collect();
    assert_eq!(of_budget.len(), 1, "{:?}", errors(&plan));
    assert!(of_budget[0].contains(&stopped[0].name));
    assert_eq!(plan.steps, WORK_MAX);

    let again = create(&catalog, letter("a".repeat(64 * 1024))).unwrap();
    assert_eq!((verdicts(&again), again.steps, again.hash), (verdicts(&plan), plan.steps, plan.hash));
    assert_folds(&[], &plan);
}

#[test]
fn conditions_that_read_long_texts_stop_the_request_at_its_steps() {
    let mut desk = Desk::new();
    for n in 0..200 {
        let query = json!({ "query": format!("Transaction.Content MATCHES 'printer{n}' OR Subject = 'x'") });
        let raise = ("SetPriority", json!({ "value": n.to_string() }));
        desk = desk.scrip(&format!("Rule {n}"), ("UserDefined", query), raise, json!({}));
    }
    let catalog = desk.open();
    let plan = create(&catalog, letter("printer on fire ".repeat(4 * 1024))).unwrap();
    let (last, before) = plan.evaluations.split_last().unwrap();
    assert_eq!(last.verdict, Verdict::Stopped);
    assert!(before.iter().all(|one| one.verdict == Verdict::NotApplicable) && before.len() < 199);
    assert_eq!((errors(&plan).len(), plan.steps), (1, WORK_MAX));

    let short = create(&catalog, letter("printer on fire".to_owned())).unwrap();
    assert_eq!(short.evaluations.len(), 200);
    assert!(short.steps < HEAVY, "{} steps for 200 conditions on a short text", short.steps);
}

#[test]
fn scrips_on_trial_take_no_steps_of_the_others() {
    let desk = Desk::new().template("Heavy", "s", LOOPS).template("Light", "s", "{{ ticket.subject }}");
    let desk = mailing(desk, 10, &json!({ "template": "Heavy", "state": "shadow" }));
    let notify = ("SendEmail", json!({ "to": ["boss@example.net"] }));
    let catalog = desk.scrip("Real", ("OnCreate", json!({})), notify, json!({ "template": "Light" })).open();
    let plan = create(&catalog, letter("a".repeat(64 * 1024))).unwrap();
    assert_eq!(verdict_of(&plan, "Real"), Verdict::Fired);
    assert_eq!(plan.evaluations.iter().filter(|one| one.verdict == Verdict::Stopped).count(), 1);
    assert!((TRIALS_MAX..TRIALS_MAX + HEAVY).contains(&plan.steps), "{}", plan.steps);
}

#[test]
fn an_ordinary_request_is_far_from_heavy() {
    let body = "Hello {{ actor.name }},\n{% for one in batch %}{{ one.description }}\n{% endfor %}{{ transaction.content | quote }}";
    let desk = Desk::new().template("T", "Re: {{ ticket.subject }}", body);
    let catalog = mailing(desk, 5, &json!({ "template": "T" })).open();
    let plan = create(&catalog, letter("My printer is on fire. ".repeat(100))).unwrap();
    assert!(plan.steps < HEAVY / 10, "{} steps", plan.steps);
}

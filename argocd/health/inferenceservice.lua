-- Health of an InferenceService (aiops-quality.io) for Argo CD, from its conditions.
-- Drift leaves a service Healthy, with a message: what git asks for is served. The annotation
-- aiops-quality.io/health-on-drift: Degraded makes drift count until it is over or acknowledged.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end

local function is_true(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

local function told(name)
  local condition = conditions[name] or {}
  return (condition.reason or "Unknown") .. ": " .. (condition.message or "")
end

if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  local waiting = conditions["Ready"] ~= nil and conditions["Ready"].reason == "WaitingForOperator"
  return { status = "Progressing", message = waiting and told("Ready") or "The operator has not seen this spec yet." }
end
if is_true("Stalled") then
  return { status = "Degraded", message = told("Stalled") }
end
if obj.spec ~= nil and obj.spec.paused == true then
  return { status = "Suspended", message = told("Reconciling") }
end
if not is_true("Ready") then
  return { status = "Progressing", message = told("Ready") }
end

local on_drift = (obj.metadata.annotations or {})["aiops-quality.io/health-on-drift"] or "Healthy"
if on_drift ~= "Healthy" and on_drift ~= "Degraded" then
  local known = "write Healthy (as without the annotation) or Degraded"
  return { status = "Unknown", message = "annotation aiops-quality.io/health-on-drift: " .. known .. ", not " .. on_drift }
end
if not is_true("DriftDetected") then
  return { status = "Healthy", message = conditions["Ready"].message }
end
if (status.drift or {}).acknowledged == true then
  on_drift = "Healthy"
end
return { status = on_drift, message = "Drift: " .. (conditions["DriftDetected"].message or "") }

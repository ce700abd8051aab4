-- Health of an InferenceService (aiops-quality.io) for Argo CD, from its conditions.
-- Drift leaves a service Healthy, with a message: what git asks for is rolled out. The annotation
-- aiops-quality.io/health-on-drift: Degraded makes drift that nobody has acknowledged count.
local found = {}
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end

local function of(kind)
  return found[kind] or { status = "Unknown", reason = "", message = "" }
end

local function told(condition)
  return (condition.reason or "") .. ": " .. (condition.message or "")
end

local ready, stalled, drift = of("Ready"), of("Stalled"), of("DriftDetected")
if (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return { status = "Progressing", message = "The operator has not seen this spec yet." }
end
if stalled.status == "True" then
  return { status = "Degraded", message = told(stalled) }
end
if obj.spec ~= nil and obj.spec.paused == true then
  return { status = "Suspended", message = told(ready) }
end
if ready.status ~= "True" then
  return { status = "Progressing", message = told(ready) }
end
if drift.status == "True" then
  local wanted = ((obj.metadata or {}).annotations or {})["aiops-quality.io/health-on-drift"]
  local acknowledged = (status.drift or {}).acknowledged == true
  if wanted == "Degraded" and not acknowledged then
    return { status = "Degraded", message = "Drift: " .. (drift.message or "") }
  end
  return { status = "Healthy", message = "Drift: " .. (drift.message or "") }
end
return { status = "Healthy", message = ready.message or "" }

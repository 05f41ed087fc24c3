export async function showJobs() {}
export function leaveJobs() {}
